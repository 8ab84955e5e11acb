"""The load of the machine, as `taskqctl top` shows it, by psutil."""

from __future__ import annotations

from typing import Any

import psutil


def look() -> dict[str, Any]:
    """Return the load of the machine; `cpu_percent` is that since the call before (0 at first)."""
    memory = psutil.virtual_memory()
    return {
        "cpu_percent": psutil.cpu_percent(),
        "cpus": psutil.cpu_count(),
        "memory_used_bytes": memory.total - memory.available,
        "memory_bytes": memory.total,
        "load": [round(part, 2) for part in psutil.getloadavg()],
    }

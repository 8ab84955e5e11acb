"""The machine under the daemon, as `taskqctl top` shows it."""

from __future__ import annotations

from typing import Any

import psutil


def look() -> dict[str, Any]:
    """Return its load now; the share of the processors counts from the call before (0 at first)."""
    memory = psutil.virtual_memory()
    return {
        "cpu_percent": psutil.cpu_percent(),
        "cpus": psutil.cpu_count(),
        "memory_used_bytes": memory.total - memory.available,
        "memory_bytes": memory.total,
        "load": [round(part, 2) for part in psutil.getloadavg()],
    }

"""How long a job of a killed worker waits until it runs again."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from . import observe
from .drain import storage_url
from .meter import Meter
from .side import environment, taskqd_side
from .table import markdown


def run(storage: str, worker_type: str, times: int) -> str:
    """Return the Markdown report."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, _server),
    ):
        place = Path(folder, "meter")
        Meter(place)
        os.environ |= environment(url, place)
        from .sides.taskqd_app import app, survive

        side, waits_ms = taskqd_side(worker_type), []
        for number in range(times):
            note = Path(folder, f"note-{number}")
            # A fresh daemon each time: of many kills in a row, it would take the later ones for a
            # crash loop and wait before it starts another worker.
            with side.workers(2, dict(os.environ), Path(folder, "daemon.log")):
                result = survive(str(note))
                observe.wait_for("the first attempt", note.exists, 30)
                killed_ns = time.monotonic_ns()
                os.kill(int(note.read_text()), signal.SIGKILL)
                waits_ms.append((result.get(timeout=30) - killed_ns) / 1e6)
        app.close()
    waits_ms.sort()
    rows = [["median", f"{waits_ms[times // 2]:.0f}"], ["longest", f"{waits_ms[-1]:.0f}"]]
    title = f"SIGKILL of a busy {worker_type} worker on {storage}, {times} times"
    return f"{title}\n\n{markdown(['', 'ms until its job runs again'], rows)}"

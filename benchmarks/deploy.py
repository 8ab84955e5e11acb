"""How soon a job starts that only the newer of two daemons side by side knows."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from . import observe
from .drain import storage_url
from .side import environment, taskqd_side
from .table import markdown

HANG_S = 120.0
_OLD = "BENCH_OLD_CODE"


def run(storage: str, worker_type: str, jobs: int, per_s: float) -> str:
    """Return the Markdown report of `jobs` jobs, so many a second, for 2 old and 2 new workers."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, _server),
        contextlib.ExitStack() as stack,
    ):
        os.environ |= environment(url, Path(folder, "meter"))
        side, logs = taskqd_side(worker_type, "info"), []
        for name, more in (("old", {_OLD: "1"}), ("new", {})):
            log = Path(folder, f"{name}.log")
            logs.append(log)
            daemon = side.named(name).workers(2, {**os.environ, **more}, log)
            stack.enter_context(daemon)
            observe.wait_for(f"the {name} daemon", partial(_is_ready, log), HANG_S)
        waits_ms = sorted(_waits_ms(jobs, per_s))
        parked, dead = (sum(log.read_text().count(event) for log in logs) for event in _EVENTS)
    rows = [
        ["median", f"{waits_ms[len(waits_ms) // 2]:.1f}"],
        ["p99", f"{waits_ms[int(len(waits_ms) * 0.99)]:.1f}"],
        ["longest", f"{waits_ms[-1]:.1f}"],
    ]
    title = (
        f"{jobs} jobs, {per_s:g} a second, on {storage}; 2 old {worker_type} workers and 2 new ones"
    )
    told = f"{parked} times parked by the old one, {dead} times told dead"
    return f"{title}\n\n{markdown(['', 'ms until it starts on the new one'], rows)}\n{told}"


_EVENTS = ("job.parked", "job.dead")


def _is_ready(log: Path) -> bool:
    return log.exists() and "master.ready" in log.read_text()


def _waits_ms(jobs: int, per_s: float) -> list[float]:
    """Enqueue at an even pace; return for each job how long it waited for its start."""
    from .sides.taskqd_app import app, started_at

    begin_s, sent = time.monotonic(), []
    for number in range(jobs):
        time.sleep(max(0.0, begin_s + number / per_s - time.monotonic()))
        sent.append((time.monotonic_ns(), started_at()))
    waits_ms = [(result.get(timeout=HANG_S) - at_ns) / 1e6 for at_ns, result in sent]
    app.close()
    return waits_ms

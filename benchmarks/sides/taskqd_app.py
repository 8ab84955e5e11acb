"""The jobs for taskqd: `taskqd benchmarks.sides.taskqd_app:app`."""

from __future__ import annotations

import time

from benchmarks import meter
from taskqd import App

app = App("bench")


@app.task()
def noop() -> int:
    meter.count()
    return 1


@app.task()
def gate() -> int:
    meter.stand_at_gate()
    return 1


@app.task()
def started_at() -> int:
    return time.monotonic_ns()

"""The jobs for taskqd: `taskqd benchmarks.sides.taskqd_app:app`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks import meter
from taskqd import App, current_job

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
def mark(index: int) -> int:
    meter.mark(index)
    return 1


@app.task()
def busy(microseconds: int, sleeping: bool) -> int:
    meter.work(microseconds, sleeping=sleeping)
    return 1


@app.task()
def take(data: str) -> int:
    meter.count()
    return len(data)


def _started_at() -> int:
    return time.monotonic_ns()


# Old code declares it in an app of its own, which nobody serves.
started_at = (App("bench-old") if "BENCH_OLD_CODE" in os.environ else app).task(name="started_at")(
    _started_at
)


def one() -> None:
    noop()


def many(jobs: int) -> None:
    noop.map(() for _ in range(jobs))


def sized(jobs: int, size: int) -> None:
    data = "x" * (size - 60)
    step = max(1, 20_000_000 // size)
    for start in range(0, jobs, step):
        take.map((data,) for _ in range(min(step, jobs - start)))


def spread(jobs: int, queues: int) -> None:
    app.enqueue([noop.options(queue=f"q{number % queues}").s() for number in range(jobs)])


def computing(jobs: int, microseconds: int) -> None:
    busy.map((microseconds, False) for _ in range(jobs))


def sleeping(jobs: int, microseconds: int) -> None:
    busy.map((microseconds, True) for _ in range(jobs))


def mark_all(jobs: int) -> None:
    mark.map((index,) for index in range(jobs))


def trip() -> int:
    return started_at().get(10)


def left() -> dict[str, int]:
    rows = app.counts().values()
    return {"waiting": sum(row.queued + row.scheduled + row.running for row in rows)}


@app.task()
def survive(note: str) -> int:
    """Say who runs and wait for the kill; the second attempt returns when it began (ns)."""
    if current_job().attempt > 1:
        return time.monotonic_ns()
    part = Path(f"{note}.part")
    part.write_text(str(os.getpid()))
    part.rename(note)
    time.sleep(30)
    return 0

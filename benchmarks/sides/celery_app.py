"""The jobs for Celery: `celery -A benchmarks.sides.celery_app worker`."""

from __future__ import annotations

import os
import time

from celery import Celery, group

from benchmarks import meter

URL = os.environ["BENCH_REDIS"].replace("unix://", "redis+socket://")
app = Celery("bench", broker=URL, backend=URL)
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = (
    os.environ.get("BENCH_ACKS_LATE") == "1"
)
app.conf.worker_prefetch_multiplier = 4
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop() -> int:
    meter.count()
    return 1


@app.task
def mark(index: int) -> int:
    meter.mark(index)
    return 1


@app.task
def started_at() -> int:
    return time.monotonic_ns()


def one() -> None:
    noop.delay()


def many(jobs: int) -> None:
    group(noop.s() for _ in range(jobs)).apply_async()


def mark_all(jobs: int) -> None:
    for index in range(jobs):
        mark.delay(index)


def trip() -> int:
    started: int = started_at.delay().get(timeout=10)
    return started

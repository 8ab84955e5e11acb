"""The jobs for Huey's consumer: `huey_consumer benchmarks.sides.huey_app.huey`."""

from __future__ import annotations

import os
import time

from huey import RedisHuey

from benchmarks import meter

# Each measurement uses what is best for Huey: results without notification are faster to write,
# results with it are faster to wait for.
huey = RedisHuey(
    "bench",
    url=os.environ["BENCH_REDIS"],
    notify_result=os.environ.get("BENCH_NOTIFY") == "1",
)


@huey.task()
def noop() -> int:
    meter.count()
    return 1


@huey.task()
def gate() -> int:
    meter.stand_at_gate()
    return 1


@huey.task()
def mark(index: int) -> int:
    meter.mark(index)
    return 1


@huey.task()
def started_at() -> int:
    return time.monotonic_ns()


def one() -> None:
    noop()


def mark_all(jobs: int) -> None:
    for index in range(jobs):
        mark(index)


def trip() -> int:
    started: int = started_at().get(blocking=True, timeout=10)
    return started


def left() -> dict[str, int]:
    return {"waiting": huey.storage.queue_size(), "results": huey.storage.result_store_size()}

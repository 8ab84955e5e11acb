"""The jobs for FlexiQ on SQLite: `flexiq worker --app benchmarks.sides.flexiq_app:queue`."""

from __future__ import annotations

import os

from flexiq import Queue

from benchmarks import meter

PATH = os.environ["BENCH_REDIS"].removeprefix("sqlite:///").partition("?")[0]

queue = Queue(
    db_path=PATH,
    workers=16,
    scheduler_poll_interval_ms=5,
    scheduler_batch_size=1_000,
)


@queue.task()
def noop() -> int:
    meter.count()
    return 1


def one() -> None:
    noop.delay()


def many(jobs: int) -> None:
    noop.map([()] * jobs)

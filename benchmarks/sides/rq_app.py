"""The jobs for RQ: `rq worker-pool --worker-class rq.worker.SimpleWorker bench`."""

from __future__ import annotations

import os
import time

import redis
from rq import Queue

from benchmarks import meter

queue = Queue("bench", connection=redis.Redis.from_url(os.environ["BENCH_REDIS"]))
CHUNK = 1000


def noop() -> int:
    meter.count()
    return 1


def mark(index: int) -> int:
    meter.mark(index)
    return 1


def started_at() -> int:
    return time.monotonic_ns()


def one() -> None:
    queue.enqueue(noop)


def many(jobs: int) -> None:
    for _ in range(0, jobs, CHUNK):
        queue.enqueue_many([Queue.prepare_data(noop) for _ in range(CHUNK)])


def mark_all(jobs: int) -> None:
    for index in range(jobs):
        queue.enqueue(mark, index)


def trip() -> int:
    result = queue.enqueue(started_at).latest_result(timeout=10)
    started: int = result.return_value
    return started

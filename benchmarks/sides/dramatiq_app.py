"""The jobs for Dramatiq: `dramatiq benchmarks.sides.dramatiq_app`."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import meter

URL = os.environ["BENCH_REDIS"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop() -> int:
    meter.count()
    return 1


@dramatiq.actor(store_results=True)
def mark(index: int) -> int:
    meter.mark(index)
    return 1


@dramatiq.actor(store_results=True)
def started_at() -> int:
    return time.monotonic_ns()


def one() -> None:
    noop.send()


def mark_all(jobs: int) -> None:
    for index in range(jobs):
        mark.send(index)


def trip() -> int:
    started: int = started_at.send().get_result(block=True, timeout=10_000)
    return started

"""The jobs for taskiq: `taskiq worker benchmarks.sides.taskiq_app:broker`."""

from __future__ import annotations

import asyncio
import os
import time

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import meter

URL = os.environ["BENCH_REDIS"]
CHUNK = 1000
broker = RedisStreamBroker(url=URL).with_result_backend(
    RedisAsyncResultBackend(redis_url=URL, result_ex_time=3600)
)
_started = False


@broker.task
async def noop() -> int:
    meter.count()
    return 1


@broker.task
async def mark(index: int) -> int:
    meter.mark(index)
    return 1


@broker.task
async def started_at() -> int:
    return time.monotonic_ns()


async def start() -> None:
    global _started
    if not _started:
        await broker.startup()
        _started = True


async def one() -> None:
    await start()
    await noop.kiq()


async def many(jobs: int) -> None:
    await start()
    for _ in range(0, jobs, CHUNK):
        await asyncio.gather(*(noop.kiq() for _ in range(CHUNK)))


async def mark_all(jobs: int) -> None:
    await start()
    for index in range(jobs):
        await mark.kiq(index)


async def trip() -> int:
    await start()
    task = await started_at.kiq()
    result = await task.wait_result(check_interval=0.0005, timeout=10)
    started: int = result.return_value
    return started

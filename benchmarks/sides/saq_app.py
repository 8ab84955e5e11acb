"""The jobs for SAQ: `saq benchmarks.sides.saq_app.settings`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import uvloop
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from benchmarks import meter

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
CHUNK = 1000
queue = RedisQueue(Redis.from_url(os.environ["BENCH_REDIS"]))


async def noop(_ctx: Any) -> int:
    meter.count()
    return 1


async def mark(_ctx: Any, *, index: int) -> int:
    meter.mark(index)
    return 1


async def started_at(_ctx: Any) -> int:
    return time.monotonic_ns()


settings = {"queue": queue, "functions": [noop, mark, started_at], "concurrency": 10}


async def one() -> None:
    await queue.enqueue("noop")


async def many(jobs: int) -> None:
    for _ in range(0, jobs, CHUNK):
        await asyncio.gather(*(queue.enqueue("noop") for _ in range(CHUNK)))


async def mark_all(jobs: int) -> None:
    for index in range(jobs):
        await queue.enqueue("mark", index=index)


async def trip() -> int:
    """Poll: `queue.apply` subscribes after it has enqueued, and misses a job that is this fast."""
    job = await queue.enqueue("started_at")
    assert job is not None
    while not job.completed:
        await asyncio.sleep(0.0005)
        await job.refresh()
    started: int = job.result
    return started

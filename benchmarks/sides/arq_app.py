"""The jobs for arq: `arq benchmarks.sides.arq_app.WorkerSettings`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import uvloop
from arq import ArqRedis, create_pool
from arq.connections import RedisSettings

from benchmarks import meter

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
CHUNK = 1000
_pool: ArqRedis | None = None


async def noop(_ctx: Any) -> int:
    meter.count()
    return 1


async def mark(_ctx: Any, index: int) -> int:
    meter.mark(index)
    return 1


async def started_at(_ctx: Any) -> int:
    return time.monotonic_ns()


class WorkerSettings:
    functions = (noop, mark, started_at)
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])
    max_jobs = 10
    poll_delay = 0.01  # by default it looks for new jobs every 0.5 s
    handle_signals = True


async def pool() -> ArqRedis:
    global _pool
    _pool = _pool or await create_pool(WorkerSettings.redis_settings)
    return _pool


async def one() -> None:
    await (await pool()).enqueue_job("noop")


async def many(jobs: int) -> None:
    redis = await pool()
    for _ in range(0, jobs, CHUNK):
        await asyncio.gather(*(redis.enqueue_job("noop") for _ in range(CHUNK)))


async def mark_all(jobs: int) -> None:
    redis = await pool()
    for index in range(jobs):
        await redis.enqueue_job("mark", index)


async def trip() -> int:
    job = await (await pool()).enqueue_job("started_at")
    assert job is not None
    started: int = await job.result(timeout=10, poll_delay=0.001)
    return started

"""The producer: a process of its own, in each side's own environment; prints one line of JSON.

python -m benchmarks.sides.produce SIDE enqueue JOBS GATES   (gates: Huey and taskqd only)
python -m benchmarks.sides.produce SIDE bulk JOBS
python -m benchmarks.sides.produce SIDE marks JOBS
python -m benchmarks.sides.produce SIDE latency JOBS
python -m benchmarks.sides.produce SIDE left

A side is a module `benchmarks.sides.SIDE_app` with `one()` (enqueue a job that does nothing),
`trip()` (enqueue a job, wait for its result: when it started), `mark_all(n)`, and where the queue
has such a call `many(n)` (enqueue n in bulk) and `left()`.  All of them are functions or all of
them are coroutine functions.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from typing import Any


async def maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def enqueue(side: Any, jobs: int, gates: int = 0) -> dict[str, float]:
    """Enqueue the gates first, then `jobs` jobs one by one."""
    for _ in range(gates):
        side.gate()
    began = time.perf_counter()
    if inspect.iscoroutinefunction(side.one):
        for _ in range(jobs):
            await side.one()
    else:
        for _ in range(jobs):
            side.one()
    return {"enqueue_rate": jobs / (time.perf_counter() - began)}


async def bulk(side: Any, jobs: int) -> dict[str, float]:
    """Enqueue `jobs` jobs by the bulk call, where there is one."""
    if not hasattr(side, "many"):
        return {}
    await maybe(side.one())  # connects
    began = time.perf_counter()
    await maybe(side.many(jobs))
    return {"bulk_rate": jobs / (time.perf_counter() - began)}


async def marks(side: Any, jobs: int) -> dict[str, float]:
    """Enqueue jobs that write their number down."""
    await maybe(side.mark_all(jobs))
    return {}


async def latency(side: Any, jobs: int) -> dict[str, list[float]]:
    """One job after the other: microseconds until it started, and until its result was here."""
    start_us, done_us = [], []
    for index in range(jobs + 20):
        began = time.monotonic_ns()
        trip = side.trip()
        started = await trip if inspect.isawaitable(trip) else trip
        ended = time.monotonic_ns()
        if index >= 20:  # the first few open connections
            start_us.append((started - began) / 1000)
            done_us.append((ended - began) / 1000)
        await asyncio.sleep(0.002)  # let the worker fall idle
    return {"start_us": start_us, "done_us": done_us}


async def left(side: Any) -> dict[str, int]:
    """Count jobs that have not been settled, and results that are kept."""
    counted: dict[str, int] = side.left()
    return counted


async def _own(side: Any, command: str, *numbers: int) -> dict[str, float]:
    """Call a function that only this side has."""
    await maybe(getattr(side, command)(*numbers))
    return {}


def main() -> None:
    name, command, *numbers = sys.argv[1:]
    side = importlib.import_module(f"benchmarks.sides.{name}_app")
    function = globals().get(command) or _own
    arguments = [side, command] if function is _own else [side]
    print(json.dumps(asyncio.run(function(*arguments, *map(int, numbers)))))


if __name__ == "__main__":
    main()

"""The producer: a process of its own, in each side's own environment; prints one line of JSON.

python -m benchmarks.sides.produce huey|taskqd enqueue JOBS GATES
python -m benchmarks.sides.produce huey|taskqd latency JOBS
python -m benchmarks.sides.produce huey|taskqd left
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def tasks(side: str) -> Any:
    return importlib.import_module(f"benchmarks.sides.{side}_app")


def enqueue(side: str, jobs: int, gates: int) -> dict[str, float]:
    """Enqueue the gates first, then `jobs` jobs one by one."""
    module = tasks(side)
    for _ in range(gates):
        module.gate()
    began = time.perf_counter()
    for _ in range(jobs):
        module.noop()
    return {"enqueue_rate": jobs / (time.perf_counter() - began)}


def bulk(side: str, jobs: int) -> dict[str, float]:
    """Enqueue `jobs` jobs by the bulk call, where there is one."""
    if side == "huey":
        return {}
    module = tasks(side)
    began = time.perf_counter()
    module.noop.map(() for _ in range(jobs))
    return {"bulk_rate": jobs / (time.perf_counter() - began)}


def latency(side: str, jobs: int) -> dict[str, list[float]]:
    """One job after the other: microseconds until it started, and until its result was here."""
    module = tasks(side)
    start_us, done_us = [], []
    for index in range(jobs + 20):
        began = time.monotonic_ns()
        result = module.started_at()
        started = result.get(blocking=True, timeout=10) if side == "huey" else result.get(10)
        ended = time.monotonic_ns()
        if index >= 20:  # the first few open connections
            start_us.append((started - began) / 1000)
            done_us.append((ended - began) / 1000)
        time.sleep(0.002)  # let the worker fall idle
    return {"start_us": start_us, "done_us": done_us}


def left(side: str) -> dict[str, int]:
    """Count jobs that have not been settled, and results that are kept."""
    if side == "huey":
        huey = tasks(side).huey
        return {"waiting": huey.storage.queue_size(), "results": huey.storage.result_store_size()}
    rows = tasks(side).app.counts().values()
    return {"waiting": sum(row.queued + row.scheduled + row.running for row in rows)}


def main() -> None:
    side, command, *numbers = sys.argv[1:]
    print(json.dumps(globals()[command](side, *map(int, numbers))))


if __name__ == "__main__":
    main()

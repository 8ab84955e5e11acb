"""A long drain: is a job as cheap with 200,000 waiting as with 10,000, and does memory stay bounded?"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.support.servers.redis_server import RedisServer

from . import observe
from .meter import Meter
from .side import environment, taskqd_side
from .table import markdown

SLICE = 10_000
STALL_S = 60.0


@contextlib.contextmanager
def storage_url(storage: str, folder: Path) -> Iterator[tuple[str, RedisServer | None]]:
    if storage == "sqlite":
        yield f"sqlite:///{folder}/bench.db", None
        return
    with RedisServer() as server:
        yield server.url, server


def run(jobs: int, storage: str, worker_type: str, log_level: str = "warning") -> str:
    """Return the Markdown report."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, server),
    ):
        place = Path(folder, "meter")
        meter = Meter(place)
        os.environ |= environment(url, place)
        from .sides.taskqd_app import app, noop

        enqueued = [_enqueue(noop, min(SLICE, jobs - at)) for at in range(0, jobs, SLICE)]
        size = _size(storage, url, server)
        side = taskqd_side(worker_type, log_level)
        with side.workers(2, dict(os.environ), Path(folder, "daemon.log")) as pid:
            rows = list(_slices(meter, pid, server, jobs))
            observe.wait_for("settlement", lambda: _waiting(app) == 0, 60, every_s=0.1)
            kept = _size(storage, url, server)
        leaks = len(list(app.storage.leftovers()))
        app.close()
    head = ["jobs done", "enqueue us/job", "drain us/job", "CPU of workers us/job", "PSS MB"]
    table = markdown(
        head,
        [
            [f"{done:,}", f"{put:.1f}", f"{took:.1f}", f"{cpu:.1f}", f"{pss / 1e6:.1f}"]
            for put, (done, took, cpu, pss) in zip(enqueued, rows, strict=False)
        ],
    )
    title = f"{jobs:,} no-op jobs on {storage}, 2 {worker_type} workers"
    sizes = f"storage: {size / jobs:.0f} bytes a waiting job, {kept / jobs:.0f} a finished one"
    return f"{title}\n\n{table}\n\n{sizes}; keys or rows without owner or lifetime: {leaks}"


def _enqueue(noop: object, jobs: int) -> float:
    """Return microseconds a job."""
    began = time.perf_counter()
    noop.map(() for _ in range(jobs))  # type: ignore[attr-defined]
    return (time.perf_counter() - began) / jobs * 1e6


def _slices(
    meter: Meter, pid: int, server: RedisServer | None, jobs: int
) -> Iterator[tuple[int, float, float, int]]:
    """Yield (jobs done, wall us a job, CPU us a job, PSS) for each slice."""
    observe.wait_for("the first job", partial(_reached, meter, 1), STALL_S)
    at, began, cost = 0, meter.read().first_ns / 1e9, observe.snapshot(pid, server)
    while at < jobs:
        goal = min(at + SLICE, jobs)
        observe.wait_for(f"job {goal}", partial(_reached, meter, goal), STALL_S)
        now, spent, done = time.monotonic(), observe.snapshot(pid, server), meter.read().jobs
        cpu_us = (spent.workers - cost.workers) / (done - at) * 1e6
        pss = observe.pss_bytes(observe.tree(pid))
        yield done, (now - began) / (done - at) * 1e6, cpu_us, pss
        at, began, cost = done, now, spent


def _reached(meter: Meter, goal: int) -> bool:
    return meter.read().jobs >= goal


def _size(storage: str, url: str, server: RedisServer | None) -> int:
    if server is not None:
        used: int = observe.server_client(server).info("memory")["used_memory"]
        return used
    path = Path(url.removeprefix(f"{storage}:///"))
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())


def _waiting(app: object) -> int:
    rows = app.counts().values()  # type: ignore[attr-defined]
    return sum(row.queued + row.scheduled + row.running for row in rows)

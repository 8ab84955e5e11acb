"""What a job costs a storage with 1,000 to 1,000,000 others waiting, or delayed: flat, or not?

One loop enqueues 64 jobs and takes a turn that settles 64 and leases 64, so the depth stays.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taskqd.clock import now_ms
from taskqd.jobs.job import Answer, Entry, Lease, Outcome, encode_answer
from taskqd.storage import open_storage
from taskqd.storage.base import Node, Storage
from tests.support.servers.redis_server import RedisServer

from . import observe
from .drain import storage_url
from .table import markdown

DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 64
WARM_TURNS, TURNS = 100, 500
QUEUES = ("q",)
FAR_MS = 86_400_000


class Cost(NamedTuple):
    """Microseconds a job."""

    enqueue: float
    turn: float
    cpu: float
    """Of both, in this process and in the server."""


def run(storage: str, delayed: bool, depths: tuple[int, ...] = DEPTHS) -> str:
    """Return the Markdown report."""
    costs = []
    for depth in depths:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            storage_url(storage, Path(folder)) as (url, server),
        ):
            costs.append(_measure(open_storage(url, "bench"), server, depth, delayed))
    what = "delayed" if delayed else "waiting"
    head = [f"{what} on {storage}", "enqueue, us/job", "settle and lease, us/job", "CPU, us/job"]
    head.append("CPU of the first")
    rows = [
        [
            f"{depth:,}",
            f"{cost.enqueue:.1f}",
            f"{cost.turn:.1f}",
            f"{cost.cpu:.1f}",
            f"{cost.cpu / costs[0].cpu:.2f}",
        ]
        for depth, cost in zip(depths, costs, strict=True)
    ]
    return markdown(head, rows)


def _measure(storage: Storage, server: RedisServer | None, depth: int, delayed: bool) -> Cost:
    storage.register(Node("n"), QUEUES, 3600)
    ids = map(str, itertools.count())
    run_at_ms = now_ms() + FAR_MS if delayed else 0
    for start in range(0, depth, 1000):
        storage.enqueue(list(_entries(ids, min(1000, depth - start), run_at_ms)))
    if delayed:
        storage.enqueue(list(_entries(ids, BATCH, 0)))
    held: list[Lease] = storage.turn("n.1", (), QUEUES, BATCH).leases
    for _ in range(WARM_TURNS):
        held = _turn(storage, held, list(_entries(ids, BATCH, 0)))[0]
    before = observe.snapshot(os.getpid(), server)
    put_s = turn_s = 0.0
    for _ in range(TURNS):
        entries = list(_entries(ids, BATCH, 0))
        began = time.perf_counter()
        held, put_at = _turn(storage, held, entries)
        ended = time.perf_counter()
        put_s += put_at - began
        turn_s += ended - put_at
    spent = observe.spent(before, observe.snapshot(os.getpid(), server))
    storage.close()
    jobs = TURNS * BATCH
    cpu_s = spent.self + spent.server
    return Cost(put_s / jobs * 1e6, turn_s / jobs * 1e6, cpu_s / jobs * 1e6)


def _turn(storage: Storage, held: list[Lease], entries: list[Entry]) -> tuple[list[Lease], float]:
    storage.enqueue(entries)
    put_at = time.perf_counter()
    outcomes = [
        Outcome(
            lease.id,
            lease.queue,
            lease.token,
            "ack",
            encode_answer(Answer("done", lease.token, now_ms(), 3600)),
            3600,
        )
        for lease in held
    ]
    return storage.turn("n.1", outcomes, QUEUES, BATCH).leases, put_at


def _entries(ids: Iterator[str], count: int, run_at_ms: int) -> Iterator[Entry]:
    for _ in range(count):
        job_id = next(ids)
        payload = b'{"t":"bench.noop","a":[%b],"e":1790000000000}' % job_id.encode()
        yield Entry(job_id, "q", payload, run_at_ms)

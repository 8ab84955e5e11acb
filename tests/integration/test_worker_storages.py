"""The pump on real storages: batches, waking, outages."""

from __future__ import annotations

import itertools
import time

import pytest

from taskqd.ipc import board
from taskqd.ipc.messages import Ready, StorageLost, StorageRestored
from taskqd.storage import open_storage
from tests.support.rigs.worker_rig import Jobs, WorkerRig, entries
from tests.support.servers.redis_server import RedisServer, available_servers
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import wait_until

backend = backends(*(name for name in NAMES if name != "memory"))


@pytest.fixture(
    params=[{}, {"threads": 4}, {"coroutines": 4}], ids=["process", "thread", "asyncio"]
)
def kind(request: pytest.FixtureRequest) -> dict[str, int]:
    return request.param


def test_every_job_runs_once_and_leaves_only_its_answer(
    backend: Backend, kind: dict[str, int]
) -> None:
    storage = backend.open(backend.namespace())
    other = backend.open(storage.namespace)
    storage.enqueue(entries(1000))
    jobs = Jobs()
    with WorkerRig(storage, jobs=jobs, **kind) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 1000)
        assert sorted(jobs.started) == [entry.id for entry in entries(1000)]
        assert other.answer("job0999", "q") is not None
    assert list(other.leftovers()) == []


def test_an_idle_worker_starts_a_job_at_once(backend: Backend, kind: dict[str, int]) -> None:
    storage = backend.open(backend.namespace())
    producer = backend.open(storage.namespace)
    jobs = Jobs()
    with WorkerRig(storage, jobs=jobs, **kind) as rig:
        rig.hear(Ready)
        latencies = []
        for number, entry in enumerate(entries(40)):
            began = time.monotonic()
            producer.enqueue([entry])
            wait_until(lambda number=number: len(jobs.started) > number)
            latencies.append(time.monotonic() - began)
            producer.wait([(entry.id, "q")], 5.0)
        # Only a worker that polls, or that missed its ring, is so slow.
        assert sorted(latencies)[20] < 1.5


def test_jobs_that_come_together_start_together_in_an_idle_worker(backend: Backend) -> None:
    storage = backend.open(backend.namespace())
    producer = backend.open(storage.namespace)
    jobs = Jobs()
    for entry in entries(6):
        jobs.gate(entry.id)
    with WorkerRig(storage, jobs=jobs, threads=6) as rig:
        rig.hear(Ready)
        producer.enqueue(entries(4))
        wait_until(lambda: len(jobs.started) == 4)
        producer.enqueue(entries(6)[4:])
        wait_until(lambda: len(jobs.started) == 6)


def test_a_job_hears_that_it_is_revoked_while_another_queue_keeps_its_worker_busy(
    backend: Backend,
) -> None:
    storage = backend.open(backend.namespace())
    producer = backend.open(storage.namespace)
    jobs = Jobs()
    jobs.gate("long0000")
    numbers = itertools.count()

    def heard() -> bool:
        """Keep so much waiting in the first queue that no turn ever comes to ask the second."""
        if {row.name: row.queued for row in producer.queues()}.get("first", 0) < 2000:
            producer.enqueue(entries(2000, "first", prefix=f"n{next(numbers)}-"))
        return jobs.places[0].stopping

    with WorkerRig(storage, jobs=jobs, threads=2, queues=("first", "second")):
        producer.enqueue(entries(1, "second", prefix="long"))
        wait_until(lambda: jobs.started)
        heard()
        wait_until(lambda: len(jobs.started) > 100)
        assert producer.stop("long0000", "second", b"", 60)
        wait_until(heard)


def test_two_workers_share_a_short_queue_of_long_jobs(backend: Backend) -> None:
    storage = backend.open(backend.namespace())
    jobs = Jobs()
    for entry in entries(2):
        jobs.gate(entry.id)
    storage.enqueue(entries(2))
    with (
        WorkerRig(storage, jobs=jobs),
        WorkerRig(backend.open(storage.namespace), jobs=jobs, serial=2),
    ):
        wait_until(lambda: len(jobs.started) == 2)


def test_consumption_resumes_after_redis_was_killed_and_started_again(kind: dict[str, int]) -> None:
    binary = available_servers().get("redis") or available_servers().get("valkey")
    if binary is None:
        pytest.skip("no Redis server on this machine")
    with RedisServer(binary, appendfsync="always") as server:
        storage = open_storage(server.url, "outage")
        jobs = Jobs()
        jobs.gate("job0000")
        storage.enqueue(entries(200))
        with WorkerRig(open_storage(server.url, "outage"), jobs=jobs, **kind) as rig:
            wait_until(lambda: "job0000" in jobs.started)
            server.kill()
            jobs.gates["job0000"].set()
            rig.hear(StorageLost)
            server.start()
            rig.hear(StorageRestored)
            wait_until(lambda: rig.row.get(board.DONE) >= 200)
            storage = open_storage(server.url, "outage")
            storage.enqueue(entries(50, prefix="late"))
            wait_until(lambda: storage.answer("late0049", "q") is not None)
            wait_until(lambda: rig.counts() == (0, 0))
            assert all(storage.answer(entry.id, "q") for entry in entries(200))

"""The pump in storms: calls of its storage fail at random, before or after they took effect."""

from __future__ import annotations

import random
from typing import Any

import pytest

from taskqd.ipc import board
from taskqd.ipc.messages import Drain, Drained
from taskqd.jobs.job import State
from taskqd.storage.base import Node
from tests.support.rigs.worker_rig import NODE, Jobs, WorkerRig, entries
from tests.support.servers.failing_storage import FailingStorage
from tests.support.servers.storages import NAMES, Backend, backends
from tests.support.waiting import wait_until

SEEDS = range(3)


# A cluster is the same to a pump as one server, whose calls fail here.
backend = backends(*(name for name in NAMES if name != "cluster"))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.001)


def rig_in(failing: FailingStorage, **options: Any) -> WorkerRig:
    return WorkerRig(failing, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [0, 4], ids=["process", "thread"])
def test_no_job_is_lost_and_none_runs_twice(backend: Backend, seed: int, threads: int) -> None:
    storage = backend.open(backend.namespace())
    failing = FailingStorage(backend.open(storage.namespace), seed, 0.4)
    jobs = Jobs()
    batch = entries(2000)
    for entry in batch[100::100]:
        jobs.gate(entry.id)
    storage.enqueue(batch)
    with rig_in(failing, jobs=jobs, threads=threads) as rig:
        rig.storage = storage
        for entry in batch[100::100]:
            wait_until(lambda entry=entry: entry.id in jobs.started)
            jobs.gates[entry.id].set()
        wait_until(lambda: rig.row.get(board.DONE) == len(batch))
        assert rig.counts() == (0, 0)
        failing.share = 0.0
    assert failing.failures > 0
    assert sorted(jobs.started) == [entry.id for entry in batch]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drain_in_a_storm_leaves_no_job_leased(backend: Backend, seed: int) -> None:
    storage = backend.open(backend.namespace())
    failing = FailingStorage(backend.open(storage.namespace), seed, 0.4)
    jobs = Jobs()
    jobs.gate("job0050")
    storage.enqueue(entries(100))
    with rig_in(failing, jobs=jobs) as rig:
        rig.storage = storage
        wait_until(lambda: "job0050" in jobs.started)
        rig.tell(Drain(60))
        wait_until(lambda: rig.stopping.stopping)
        jobs.gates["job0050"].set()
        rig.hear(Drained)
        rig.ended()
        assert rig.counts() == (100 - len(jobs.started), 0)
    assert len(jobs.started) == len(set(jobs.started))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_expires_again_and_again_loses_no_job(backend: Backend, seed: int) -> None:
    storage = backend.open(backend.namespace())
    failing = FailingStorage(backend.open(storage.namespace), seed, 0.1)
    jobs = Jobs()
    with rig_in(failing, jobs=jobs, threads=2) as rig:
        rig.storage = storage
        for number in range(6):
            storage.enqueue(entries(30, prefix=f"r{number}-"))
            wait_until(lambda n=number: len(jobs.started) >= 15 * (n + 1))
            storage.recover_node(NODE, ("q",))
            storage.register(Node(NODE), ("q",), 600)
        wait_until(lambda: rig.counts() == (0, 0))
        failing.share = 0.0
    for number in range(6):
        for entry in entries(30, prefix=f"r{number}-"):
            row = storage.job(entry.id, "q")
            assert row is not None
            assert row.state == State.DONE

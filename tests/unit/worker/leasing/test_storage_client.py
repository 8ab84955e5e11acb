"""A worker's calls to its storage: their order with what is logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.ipc.board import Board, size
from taskqd.jobs.job import Lease, Outcome
from taskqd.storage.base import Leased
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.leasing.storage_client import StorageClient
from tests.support.rigs.worker_rig import Jobs


class Recorder:
    """A log and a storage that note the order in which they are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def enabled(self, _event: str) -> bool:
        return False

    def flush(self) -> None:
        self.calls.append("flush")

    def turn(self, *_args: Any, **_kwargs: Any) -> Leased:
        self.calls.append("turn")
        return Leased([True], [], 0, 0)

    def settle(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle")
        return [True for _ in outcomes]

    def holdings(self, _worker: str, _queues: tuple[str, ...]) -> list[Lease]:
        self.calls.append("holdings")
        return [Lease("unseen", "q", 2, b"")]

    def release(self, _worker: str, leases: list[tuple[str, str, int]]) -> list[bool]:
        self.calls.append(f"release {leases[0][0]}")
        return [True for _ in leases]


def client_of(recorder: Any) -> StorageClient:
    row = Board(memoryview(bytearray(size(1, 1))), 1, 1).row(0)
    slots: Any = SimpleNamespace(
        capacity=1,
        low=0,
        settled=lambda _outcomes: None,
        withdraw=list,
        collect=list,
        running=list,
    )
    order = QueueOrder(["q"], {}, lambda: 0.5)
    client = StorageClient("n.1", recorder, order, slots, Jobs(), row, recorder)
    client.ledger.handed(1, 0.0)
    client.ledger.finished([Outcome("j", "q", 1, "ack")], 0.0)
    return client


def test_the_log_is_written_before_the_storage_learns_of_an_outcome() -> None:
    turned, settled = Recorder(), Recorder()
    client_of(turned).turn(1)
    assert turned.calls == ["flush", "turn"]
    client_of(settled).settle()
    assert settled.calls == ["flush", "settle"]


def test_after_an_outage_outcomes_are_settled_before_a_lease_is_released() -> None:
    """A storage that has them already, and lost its reply, would refuse them after the release."""
    recorder = Recorder()
    client_of(recorder).reconcile(accepting=False)
    assert recorder.calls == ["flush", "settle", "holdings", "release unseen"]


class Fencing(Recorder):
    """A storage that refuses an end, is lost when it is offered late, and takes it then."""

    def __init__(self, *, taken: bool) -> None:
        super().__init__()
        self._taken = taken
        self._lost = False
        self.fenced: list[str] = []

    def settle(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle")
        return [False for _ in outcomes]

    def settle_late(self, _worker: str, outcomes: list[Outcome]) -> list[bool]:
        self.calls.append("settle_late")
        if not self._lost:
            self._lost = True
            raise StorageUnavailable("away")
        return [self._taken for _ in outcomes]

    def emit(self, event: str, **facts: str) -> None:
        self.fenced.append(f"{event} {facts['job_id']}")


@pytest.mark.parametrize("taken", [True, False])
def test_an_end_was_forgotten_when_the_storage_was_lost_between_its_two_offers(
    taken: bool,
) -> None:
    storage = Fencing(taken=taken)
    client = client_of(storage)
    with pytest.raises(StorageUnavailable):
        client.settle()
    assert client.ledger.unsettled
    client.settle()
    assert storage.calls == ["flush", "settle", "settle_late"] * 2
    assert not client.ledger.unsettled
    assert client.finished == taken
    assert storage.fenced == ([] if taken else ["job.fenced j"])

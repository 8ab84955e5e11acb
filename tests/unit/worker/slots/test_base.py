"""The hand-over between the worker's loop and the slots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskqd.jobs.job import Lease, Outcome
from taskqd.worker.slots.base import Handover


class SlotThatLooks:
    """Notes, when it is left, what the worker's loop can collect by then."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self.jobs = self.ran_ns = 0
        self.lease: Lease | None = None
        self.collected: list[list[Outcome]] = []

    def take(self, lease: Lease) -> None:
        self.lease = lease

    def leave(self) -> None:
        self.collected.append(self._handover.collect())

    def close(self) -> None: ...


@pytest.fixture
def handover() -> Handover:
    return Handover()


def test_an_outcome_can_be_collected_before_its_slot_is_free(handover: Handover) -> None:
    slot: Any = SlotThatLooks(handover)
    lease: Any = SimpleNamespace(id="j")
    outcome: Any = SimpleNamespace(id="j")
    runner: Any = SimpleNamespace(run=lambda *_: outcome, acks_each=lambda _lease: False)
    handover.offer([lease])
    handover.close()
    handover.serve(slot, runner)
    assert slot.collected == [[outcome]]
    handover._finish(outcome, slot)
    assert slot.collected == [[outcome], [outcome]]


def test_unstarted_jobs_are_withdrawn_in_their_order(handover: Handover) -> None:
    leases: Any = [SimpleNamespace(id=str(n)) for n in range(3)]
    handover.offer(leases)
    assert handover.waiting() == 3
    assert handover.withdraw() == leases
    assert handover.waiting() == 0

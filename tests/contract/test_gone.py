"""A worker that was taken back is gone: what it sent before it died may come late, and does nothing."""

from __future__ import annotations

import contextlib

import pytest

from taskqd.errors import NodeExpired
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ack, ids, outcome


def _take_back(rig: Rig, worker: str = "n.1", **rest: str) -> None:
    rig.storage.recover_worker(worker, rig.queues, running=[], how="released", **rest)


@pytest.mark.parametrize("before", ["", "leased"])
def test_a_late_turn_of_a_worker_that_was_taken_back_leases_nothing(rig: Rig, before: str) -> None:
    rig.put("a")
    if before:
        rig.lease()
    _take_back(rig)
    for options in ({}, {"alone": True}, {"idle": True}):
        with pytest.raises(NodeExpired, match=r"n\.1"):
            rig.lease(**options)
    assert rig.storage.holdings("n.1", rig.queues) == []
    assert rig.counts() == (1, 0, 0, 0)
    assert ids(rig.lease(worker="n.2")) == ["a"]


def test_late_outcomes_of_a_worker_that_was_taken_back_are_refused(rig: Rig) -> None:
    rig.put("a", "b")
    a, b = rig.lease(2)
    _take_back(rig)
    with pytest.raises(NodeExpired):
        rig.storage.turn("n.1", [ack(a), outcome(b, "retry")], rig.queues, 5)
    assert rig.storage.turn("n.1", [ack(a)], rig.queues, 0).settled == [False]
    assert rig.settle(ack(a), outcome(b, "requeue")) == [False, False]
    assert rig.storage.release("n.1", [(b.id, b.queue, b.token)]) == [False]
    assert rig.order() == ["a", "b"]


def test_a_bell_armed_late_is_handed_nothing(rig2: Rig) -> None:
    bell = rig2.storage.bell("n.1", rig2.queues)
    assert rig2.lease() == []
    _take_back(rig2)
    with contextlib.suppress(NodeExpired):
        bell.arm()
        rig2.lease(idle=True)
    rig2.put("a")
    assert rig2.counts() == (1, 0, 0, 0)
    assert bell.disarm() == []
    bell.close()
    assert list(rig2.storage.leftovers()) == []


def test_a_bell_armed_when_its_worker_is_taken_back_is_handed_nothing(rig2: Rig) -> None:
    bell = rig2.storage.bell("n.1", rig2.queues)
    bell.arm()
    assert rig2.lease(idle=True) == []
    _take_back(rig2)
    rig2.put("a")
    assert rig2.counts() == (1, 0, 0, 0)
    assert bell.disarm() == []
    bell.close()
    rig2.storage.retire("n", rig2.queues)
    assert list(rig2.storage.leftovers()) == []


def test_a_worker_that_was_taken_back_gets_no_lock(features: Features, rig: Rig) -> None:
    _take_back(rig)
    assert features.lock("l", "n.1#1") is None
    assert features.lock("l", "n.2#2") is not None


def test_the_workers_of_a_node_that_registers_again_go_on(features: Features, rig: Rig) -> None:
    """A daemon that was frozen for longer than its lease was recovered, and lives."""
    features.lock("l", "n.1#1")
    rig.storage.recover_node("n", rig.queues)
    rig.register("n")
    rig.put("a")
    assert ids(rig.lease()) == ["a"]
    assert features.lock("l", "n.1#2") is not None


def test_other_workers_are_not_taken_for_the_one_that_is_gone(rig: Rig) -> None:
    rig.put("a", "b")
    _take_back(rig, "n.1")
    assert ids(rig.lease(worker="n.11")) == ["a"]
    assert ids(rig.lease(worker="n.12", alone=True)) == ["b"]

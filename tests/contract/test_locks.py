"""Locks: owned, fenced, freed with their owner; and the jobs that wait for them."""

from __future__ import annotations

import pytest

from taskqd.errors import ConfigError
from taskqd.jobs.job import State
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ids, outcome
from tests.support.waiting import wait_until


def test_a_lock_has_one_owner_at_a_time_and_tokens_that_grow(features: Features, rig: Rig) -> None:
    first = features.lock("import", "n.1#7")
    assert first is not None
    assert features.lock("import", "n.1#7") == first, "the owner may ask again"
    assert features.lock("import", "n.2#8") is None
    assert features.lock("other", "n.2#8") is not None
    assert not features.unlock("import", "n.2#8"), "it is not theirs"
    assert features.unlock("import", "n.1#7")
    assert not features.unlock("import", "n.1#7")
    second = features.lock("import", "n.2#8")
    assert second is not None
    assert second > first


def test_a_lock_with_several_slots_has_as_many_owners(features: Features, rig: Rig) -> None:
    owners = [f"n.1#{number}" for number in range(4)]
    taken = [features.lock("pool", owner, slots=3) is not None for owner in owners]
    assert taken == [True, True, True, False]
    assert {row.owner for row in features.locks()} == set(owners[:3])
    features.unlock("pool", owners[1])
    assert features.lock("pool", owners[3], slots=3) is not None


def test_a_lock_is_free_the_moment_its_worker_is_recovered(features: Features, rig: Rig) -> None:
    features.lock("a", "n.1#1")
    features.lock("b", "n.1#2/x")
    features.lock("c", "n.2#3")
    rig.storage.recover_worker("n.1", ["q"], running=[], how="orphaned")
    assert {row.name for row in features.locks()} == {"c"}
    assert features.lock("a", "n.2#4") is not None


def test_locks_of_a_dead_node_are_freed_with_it(features: Features, rig: Rig) -> None:
    rig.register("dead")
    rig.put("x")
    rig.lease(worker="dead.1")
    features.lock("a", "dead.1#1")
    features.lock("b", "dead.2#1")
    features.lock("c", "n.1#1")
    rig.storage.recover_node("dead", ["q"])
    assert {row.name for row in features.locks()} == {"c"}


def test_locks_of_an_expired_node_are_freed_with_it(features: Features, rig: Rig) -> None:
    rig.register("slow", lease_s=0.05)
    features.lock("a", "slow.1#1")

    def expired() -> bool:
        rig.storage.recover(["q"])
        return features.locks() == []

    wait_until(expired)


def test_a_lock_outside_workers_needs_a_lifetime_and_ends_with_it(
    features: Features, rig: Rig
) -> None:
    with pytest.raises(ConfigError, match="ttl_s"):
        features.lock("a", "client:1")
    assert features.lock("a", "client:1", ttl_s=0.2) is not None
    assert features.lock("a", "client:2", ttl_s=60) is None
    assert wait_until(lambda: features.lock("a", "client:2", ttl_s=60))
    assert not features.renew_lock("a", "client:1", 60)
    assert features.renew_lock("a", "client:2", 60)
    [row] = features.locks()
    assert row.expires_in_s is not None
    assert 50 < row.expires_in_s <= 60


def test_the_release_wakes_the_first_who_waits(features: Features, rig: Rig) -> None:
    features.lock("a", "n.1#1")
    rig.put("first", "second", run_at_ms=4_000_000_000_000)
    assert features.lock("a", "n.2#2", waiter=("q", "first")) is None
    assert features.lock("a", "n.3#3", waiter=("q", "second")) is None
    assert rig.lease(5) == []
    features.unlock("a", "n.1#1")
    assert ids(rig.lease(5)) == ["first"]
    assert features.lock("a", "n.2#9", waiter=("q", "first")) is not None
    features.unlock("a", "n.2#9")
    assert ids(rig.lease(5)) == ["second"]


@pytest.mark.parametrize("freed_by", ["release", "death"])
def test_a_lock_that_gets_free_before_its_waiter_is_requeued_wakes_it_all_the_same(
    features: Features, rig: Rig, freed_by: str
) -> None:
    rig.put("waits", "other")
    waits, other = rig.lease(2)
    features.lock("a", "n.2#1")
    assert features.lock("a", f"n.1#{waits.token}", waiter=("q", "waits")) is None
    if freed_by == "release":
        features.unlock("a", "n.2#1")
    else:
        rig.storage.recover_worker("n.2", ["q"], running=[], how="orphaned")
    late = [outcome(lease, "requeue", delay_ms=60_000, reason="locked") for lease in (other, waits)]
    assert rig.settle(*late) == [True, True]
    assert rig.states() == {"waits": "queued", "other": "scheduled"}
    [again] = rig.lease()
    assert features.lock("a", f"n.1#{again.token}", waiter=("q", "waits")) is not None
    assert rig.settle(outcome(again, "requeue", delay_ms=60_000)) == [True]
    assert rig.states() == {"waits": "scheduled", "other": "scheduled"}, "the call counts once"


@pytest.mark.parametrize("end", ["retry", "release", "ack"])
def test_a_call_forward_ends_with_the_lease_in_which_it_came(
    features: Features, rig: Rig, end: str
) -> None:
    rig.put("a")
    [lease] = rig.lease()
    features.lock("l", "n.2#1")
    features.lock("l", f"n.1#{lease.token}", waiter=("q", "a"))
    features.unlock("l", "n.2#1")
    if end == "release":
        rig.storage.release("n.1", [(lease.id, lease.queue, lease.token)])
        [lease] = rig.lease()
        rig.settle(outcome(lease, "requeue", delay_ms=60_000))
    else:
        rig.settle(outcome(lease, end, delay_ms=60_000))
    assert rig.states() == ({} if end == "ack" else {"a": "scheduled"})
    rig.storage.purge_queue("q")
    assert list(rig.storage.leftovers()) == []


def test_the_death_of_an_owner_wakes_who_waits(features: Features, rig: Rig) -> None:
    features.lock("a", "n.1#1")
    rig.put("waits", run_at_ms=4_000_000_000_000)
    features.lock("a", "n.2#2", waiter=("q", "waits"))
    rig.storage.recover_worker("n.1", ["q"], running=[], how="orphaned")
    assert ids(rig.lease(5, worker="n.2")) == ["waits"]


def test_a_waiter_that_is_gone_makes_room_for_the_next(features: Features, rig: Rig) -> None:
    features.lock("a", "n.1#1")
    rig.put("gone", "next", run_at_ms=4_000_000_000_000)
    features.lock("a", "n.2#2", waiter=("q", "gone"))
    features.lock("a", "n.3#3", waiter=("q", "next"))
    rig.storage.cancel("gone", "q", b"", 0)
    features.unlock("a", "n.1#1")
    row = rig.storage.job("next", "q")
    assert row is not None
    assert row.state is State.QUEUED


def test_flushing_frees_named_locks_or_all(features: Features, rig: Rig) -> None:
    for name in "abc":
        features.lock(name, "n.1#1")
    assert features.flush_locks(["a", "nobody"]) == 1
    assert {row.name for row in features.locks()} == {"b", "c"}
    assert features.flush_locks() == 2
    assert features.locks() == []


def test_no_lock_is_left_behind(features: Features, rig: Rig) -> None:
    features.lock("a", "n.1#1")
    features.lock("a", "n.2#2", waiter=("q", "nobody"))
    features.unlock("a", "n.1#1")
    features.lock("b", "client:1", ttl_s=0.01)
    wait_until(lambda: features.locks() == [])
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert list(rig.storage.leftovers()) == []

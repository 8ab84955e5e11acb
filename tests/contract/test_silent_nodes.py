"""A node that was not heard of: when its lease counts as over, and what its late words are worth."""

from __future__ import annotations

from msgspec.structs import replace

from taskqd.jobs.job import Lease, Marks, Outcome, Reason, State, split_record
from taskqd.storage.base import Node, Recovered
from tests.support.rigs.rig import Rig, ack, done, ids, outcome
from tests.support.servers.passing_time import pass_unserved
from tests.support.waiting import wait_until

LEASE_S = 600
LEASE_MS = LEASE_S * 1000
SHORT_S = 0.05


def _recover(rig: Rig, node: str) -> list[Recovered]:
    """Let the lease of `node` run out while the storage serves, and recover what it held."""
    assert rig.storage.heartbeat(node, rig.queues, SHORT_S)
    return wait_until(lambda: rig.storage.recover(rig.queues, spare="n"), f"recovery of {node}")


def _taken(rig: Rig, *job_ids: str) -> list[Lease]:
    """Put jobs, have a worker of node "cut" lease them, and take them from it."""
    rig.register("cut")
    rig.put(*job_ids)
    leases = rig.lease(len(job_ids), worker="cut.1")
    assert [row.id for row in _recover(rig, "cut")] == list(job_ids)
    return leases


def _marks(rig: Rig, job_id: str) -> Marks:
    row = rig.storage.job(job_id, "q")
    assert row is not None
    return split_record(row.record).marks


# -- when a lease is over --------------------------------------------------------------------------


def test_an_outage_longer_than_the_lease_takes_nothing_from_a_living_node(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    for _ in range(3):
        pass_unserved(rig.storage, ["q"], 2 * LEASE_MS)
        assert rig.storage.recover(["q"]) == []
        assert rig.storage.heartbeat("n", ["q"], LEASE_S) is True
        assert rig.storage.recover(["q"]) == []
    assert rig.settle(ack(lease)) == [True]


def test_ends_count_after_an_outage_before_any_heartbeat(rig: Rig) -> None:
    rig.put("a", "b")
    first, second = rig.lease(2)
    pass_unserved(rig.storage, ["q"], 2 * LEASE_MS)
    assert rig.storage.recover(["q"]) == []
    assert rig.settle(ack(first)) == [True]
    assert ids(rig.storage.holdings("n.1", ["q"])) == ["b"]
    assert rig.settle(outcome(second, "requeue", marks=Marks(1, 0, 1))) == [True]
    assert _marks(rig, "b") == Marks(1, 0, 1)


def test_the_first_look_after_a_silence_recovers_nothing(rig: Rig) -> None:
    """A scheduler that was just started does not know whether the others could renew."""
    rig.register("cut")
    rig.put("a")
    rig.lease(worker="cut.1")
    pass_unserved(rig.storage, ["q"], 2 * LEASE_MS)
    assert rig.storage.recover(["q"], spare="n") == []
    assert rig.states() == {"a": "running"}


def test_a_node_that_stays_silent_is_recovered_one_lease_after_the_outage(rig: Rig) -> None:
    rig.register("dead", lease_s=SHORT_S)
    rig.put("a")
    rig.lease(worker="dead.1")
    pass_unserved(rig.storage, ["q"], 10_000)
    rows = wait_until(lambda: rig.storage.recover(["q"]), "recovery")
    assert [(row.id, row.how, row.marks.crashes) for row in rows] == [("a", "orphaned", 1)]


def test_a_node_that_is_known_to_live_is_spared(rig: Rig) -> None:
    """Its heartbeat may be late; its scheduler asks, so it lives."""
    for node in ("asking", "dead"):
        rig.register(node, lease_s=SHORT_S)
    rig.put("a", "b")
    [mine] = rig.lease(worker="asking.1")
    rig.lease(worker="dead.1")
    rows = wait_until(lambda: rig.storage.recover(["q"], spare="asking"), "recovery")
    assert [row.worker for row in rows] == ["dead.1"]
    assert rig.settle(ack(mine), worker="asking.1") == [True]


def test_a_lease_that_ends_too_late_is_cut(rig: Rig) -> None:
    """The clock was set back after a dead host had last renewed."""
    rig.register("dead", lease_s=SHORT_S)
    rig.put("a")
    rig.lease(worker="dead.1")
    pass_unserved(rig.storage, ["q"], -3_600_000)
    rows = wait_until(lambda: rig.storage.recover(["q"], spare="n"), "recovery")
    assert [row.id for row in rows] == ["a"]


def test_the_end_of_the_first_lease_is_told(rig: Rig) -> None:
    assert rig.storage.next_expiry_s(["q"], spare="n") is None
    first = rig.storage.next_expiry_s(["q"])
    assert first is not None
    assert LEASE_S - 60 < first <= LEASE_S
    rig.register("other", lease_s=30)
    left = rig.storage.next_expiry_s(["q"], spare="n")
    assert left is not None
    assert 0 < left <= 30
    pass_unserved(rig.storage, ["q"], 60_000)
    left = rig.storage.next_expiry_s(["q"], spare="n")
    assert left is not None
    assert left < 0


def test_recoveries_of_several_queues_wait_each(rig2: Rig) -> None:
    rig2.put("a")
    rig2.put("b", queue="r")
    assert len(rig2.lease(2)) == 2
    pass_unserved(rig2.storage, ["q", "r"], 2 * LEASE_MS)
    assert rig2.storage.recover(["q", "r"]) == []
    assert set(rig2.states().values()) == {"running"}


# -- its crash -------------------------------------------------------------------------------------


def test_the_crash_of_a_node_that_speaks_again_is_an_interruption(rig: Rig) -> None:
    _taken(rig, "a")
    assert _marks(rig, "a") == Marks(attempts=1, crashes=1)
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == 1
    assert _marks(rig, "a") == Marks(attempts=1, interruptions=1)
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == 0
    assert _marks(rig, "a") == Marks(attempts=1, interruptions=1)


def test_the_crash_of_a_node_that_never_speaks_stands(rig: Rig) -> None:
    """A job that takes whole hosts down is given up in the end."""
    rig.put("a")
    for number in range(1, 4):
        rig.register(f"host{number}")
        [lease] = rig.lease(worker=f"host{number}.1", alone=True)
        [row] = _recover(rig, f"host{number}")
        assert (row.id, row.marks.crashes) == (lease.id, number)
    assert rig.storage.register(_node("another"), ["q"], LEASE_S) == 0
    assert _marks(rig, "a").crashes == 3


def test_suspects_of_a_node_that_speaks_again_are_none(rig: Rig) -> None:
    _taken(rig, "a", "b")
    rig.put("other")
    [suspect] = rig.lease(alone=True)
    assert suspect.alone
    assert rig.storage.release("n.1", [(suspect.id, "q", suspect.token)]) == [True]
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == 2
    leases = rig.lease(5)
    assert ids(leases) == ["a", "b", "other"]
    assert not any(lease.alone for lease in leases)


def test_a_crash_is_taken_back_while_somebody_else_has_the_job(rig: Rig) -> None:
    _taken(rig, "a", "b")
    taken = {}
    for _ in range(2):
        [lease] = rig.lease(alone=True)
        taken[lease.id] = lease
        assert split_record(lease.record).marks.crashes == 1
        if len(taken) == 1:
            assert rig.settle(_retried(lease)) == [True]
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == 2
    last = list(taken.values())[-1]
    assert rig.settle(_retried(last)) == [True]
    for job_id in taken:
        assert _marks(rig, job_id) == Marks(2, 1, 1, 0, "boom")


def _retried(lease: Lease) -> Outcome:
    marks = split_record(lease.record).marks
    told = replace(marks, attempts=marks.attempts + 1, failures=marks.failures + 1, error="boom")
    return outcome(lease, "retry", marks=told)


def test_a_crash_is_taken_back_of_a_dead_letter(rig: Rig) -> None:
    _taken(rig, "a")
    [lease] = rig.lease()
    marks = split_record(lease.record).marks
    buried = outcome(
        lease, "bury", marks=marks, reason=str(Reason.POISONED), answer=done(1, "dead")
    )
    assert rig.settle(buried) == [True]
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == 1
    [row] = rig.storage.jobs(State.DEAD)
    assert split_record(row.record).marks == Marks(attempts=1, interruptions=1)


def test_many_crashes_are_taken_back_in_order(rig: Rig) -> None:
    names = [f"j{number:03}" for number in range(450)]
    _taken(rig, *names)
    assert rig.storage.register(_node("cut"), ["q"], LEASE_S) == len(names)
    assert rig.order() == names


# -- its late ends ---------------------------------------------------------------------------------


def test_the_late_end_of_a_job_that_nobody_has_begun_counts(rig: Rig) -> None:
    [lease] = _taken(rig, "a")
    end = ack(lease)
    assert rig.settle(end, worker="cut.1") == [False]
    assert rig.storage.settle_late("cut.1", [end]) == [True]
    assert rig.storage.answer("a", "q") == end.answer
    assert rig.states() == {}
    assert rig.lease() == []
    assert rig.storage.settle_late("cut.1", [end]) == [True]


def test_the_late_end_of_a_job_that_was_begun_again_does_not_count(rig: Rig) -> None:
    [lease] = _taken(rig, "a")
    [again] = rig.lease()
    assert rig.storage.settle_late("cut.1", [ack(lease)]) == [False]
    assert rig.settle(outcome(again, "requeue", marks=Marks(2, 0, 1, 1))) == [True]
    assert rig.storage.settle_late("cut.1", [ack(lease)]) == [False]
    assert rig.states() == {"a": "queued"}


def test_the_late_end_of_a_job_that_was_given_up_for_it_counts(rig: Rig) -> None:
    first, second = _taken(rig, "once", "crasher")
    for reason in (Reason.LOST, Reason.POISONED):
        [lease] = rig.lease(alone=True)
        marks = split_record(lease.record).marks
        answer = done(lease.token, "dead")
        assert rig.settle(outcome(lease, "bury", marks=marks, reason=str(reason), answer=answer))
    assert rig.states() == {"once": "dead", "crasher": "dead"}
    ends = [ack(first), ack(second)]
    assert rig.storage.settle_late("cut.1", ends) == [True, True]
    assert rig.states() == {}
    assert [rig.storage.answer(name, "q") for name in ("once", "crasher")] == [
        end.answer for end in ends
    ]
    assert list(rig.storage.leftovers()) == []


def test_the_late_end_of_a_job_that_failed_elsewhere_does_not_count(rig: Rig) -> None:
    [lease] = _taken(rig, "a")
    [again] = rig.lease()
    buried = outcome(
        again, "bury", marks=Marks(2, 1, 0, 1), reason="failed", answer=done(2, "dead")
    )
    assert rig.settle(buried) == [True]
    assert rig.storage.settle_late("cut.1", [ack(lease)]) == [False]
    assert rig.states() == {"a": "dead"}


def test_a_late_failure_makes_a_dead_letter(rig: Rig) -> None:
    [lease] = _taken(rig, "a")
    end = outcome(
        lease, "bury", marks=Marks(1, 1), reason="failed", answer=done(lease.token, "dead")
    )
    assert rig.storage.settle_late("cut.1", [end]) == [True]
    [row] = rig.storage.jobs(State.DEAD)
    assert (row.id, row.reason, split_record(row.record).marks) == ("a", "failed", Marks(1, 1))


def test_late_ends_of_strangers_and_of_other_leases_do_not_count(rig: Rig) -> None:
    [lease] = _taken(rig, "a")
    other = outcome(lease, "ack", answer=done(lease.token))
    assert rig.storage.settle_late("cut.2", [other]) == [False]
    assert rig.storage.settle_late("n.1", [other]) == [False]
    wrong = replace(other, token=lease.token + 1)
    assert rig.storage.settle_late("cut.1", [wrong]) == [False]
    assert rig.states() == {"a": "queued"}


def test_the_late_end_of_a_job_that_was_not_taken_does_not_count(rig: Rig) -> None:
    rig.put("a")
    [held] = rig.lease()
    assert rig.storage.settle_late("n.1", [ack(held)]) == [False]
    assert rig.states() == {"a": "running"}
    rig.storage.recover_worker("n.1", ["q"], running=[held.token], how="orphaned")
    assert rig.storage.settle_late("n.1", [ack(held)]) == [False]
    assert rig.states() == {"a": "queued"}


def test_what_was_remembered_of_a_silent_node_is_no_leftover(rig: Rig) -> None:
    _taken(rig, "a", "b")
    for _ in range(2):
        [lease] = rig.lease(alone=True)
        assert rig.settle(ack(lease)) == [True]
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=100)
    assert list(rig.storage.leftovers()) == []


def _node(name: str) -> Node:
    return Node(name, name=f"{name}@host")

"""The ends of a lease: ack, retry, requeue, bury, cancel; fenced and repeatable."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry, Marks, State, join_record
from tests.support.rigs.rig import Rig, ack, done, ids, outcome, payload

MARKS = Marks(attempts=2, failures=1, interruptions=1, error="ValueError: no")


def test_an_acknowledged_job_is_gone_and_its_answer_stays(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    answer = done(lease.token)
    assert rig.settle(ack(lease, answer)) == [True]
    assert rig.states() == {}
    assert rig.counts() == (0, 0, 0, 0)
    assert rig.storage.answer("a", "q") == answer
    assert rig.storage.answer("a") == answer
    row = rig.storage.job("a", "q")
    assert row is not None
    assert (row.state, row.record, row.answer) == (State.DONE, b"", answer)


def test_an_empty_answer_leaves_nothing(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert rig.settle(ack(lease, b"")) == [True]
    assert rig.storage.answer("a", "q") is None
    assert rig.storage.job("a", "q") is None


def test_a_job_ends_as_cancelled(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    answer = done(lease.token, "cancelled")
    assert rig.settle(outcome(lease, "cancel", answer=answer, reason="skipped")) == [True]
    assert rig.states() == {}
    row = rig.storage.job("a", "q")
    assert row is not None
    assert (row.state, row.answer) == (State.CANCELLED, answer)


def test_a_retried_job_waits_for_its_time_with_its_marks(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    before = now_ms()
    assert rig.settle(outcome(lease, "retry", delay_ms=60_000, marks=MARKS)) == [True]
    [row] = rig.storage.jobs(State.SCHEDULED, "q")
    assert row.record == join_record(MARKS, payload("a"))
    assert before + 59_000 < row.run_at_ms < before + 90_000
    assert rig.counts() == (0, 1, 0, 0)


def test_a_retry_without_delay_goes_to_the_tail(rig: Rig) -> None:
    rig.put("a", "b")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", marks=MARKS))
    assert rig.order() == ["b", "a"]


def test_a_requeue_without_delay_goes_to_the_head(rig: Rig) -> None:
    rig.put("a", "b")
    rig.put("c", priority=2)
    leases = {lease.id: lease for lease in rig.lease(2)}
    rig.settle(outcome(leases["a"], "requeue", marks=MARKS, reason="interrupted"))
    rig.settle(outcome(leases["c"], "requeue", marks=MARKS, reason="interrupted"))
    assert rig.order() == ["c", "a", "b"]
    again = rig.lease(2)
    assert again[1].record == join_record(MARKS, payload("a"))


def test_several_requeued_at_once_keep_their_order(rig: Rig) -> None:
    rig.put("a", "b", "c", "d")
    leases = rig.lease(3)
    rig.settle(*(outcome(lease, "requeue", reason="interrupted") for lease in leases))
    assert rig.order() == ["a", "b", "c", "d"]


def test_a_requeue_with_delay_waits(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "requeue", delay_ms=60_000, reason="locked"))
    assert rig.states() == {"a": "scheduled"}


def test_new_marks_replace_old_ones(rig: Rig) -> None:
    rig.put("a")
    for attempts in (1, 2, 3):
        [lease] = rig.lease()
        rig.settle(outcome(lease, "retry", marks=Marks(attempts=attempts)))
    [lease] = rig.lease()
    assert lease.record == join_record(Marks(attempts=3), payload("a"))


def test_a_signature_stays_with_its_payload(rig: Rig) -> None:
    signed = payload("a") + b"\nk1:00ff"
    rig.storage.enqueue([Entry("a", "q", signed)])
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", marks=MARKS))
    [lease] = rig.lease()
    assert lease.record == join_record(MARKS, signed)
    rig.settle(outcome(lease, "bury", marks=Marks(attempts=9), reason="failed"))
    row = rig.storage.job("a", "q")
    assert row is not None
    assert row.record == join_record(Marks(attempts=9), signed)


def test_a_buried_job_is_dead_with_reason_record_and_answer(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    before = now_ms()
    answer = done(lease.token, "dead")
    assert rig.settle(outcome(lease, "bury", answer=answer, marks=MARKS, reason="failed")) == [True]
    [row] = rig.storage.jobs(State.DEAD, "q")
    assert (row.id, row.reason, row.answer) == ("a", "failed", answer)
    assert row.record == join_record(MARKS, payload("a"))
    assert before - 1000 <= row.run_at_ms <= now_ms() + 1000
    assert rig.storage.answer("a", "q") == answer
    assert rig.counts() == (0, 0, 0, 1)


@pytest.mark.parametrize("kind", ["ack", "retry", "requeue", "bury", "cancel"])
@pytest.mark.parametrize("told", [True, False])
def test_a_repeat_of_the_latest_outcomes_says_true_and_changes_nothing(
    rig: Rig, kind: str, told: bool
) -> None:
    rig.put("a", "b")
    [lease] = rig.lease()
    answer = done(lease.token) if told else b""
    end = outcome(lease, kind, answer=answer, marks=MARKS, reason="failed", delay_ms=60_000)
    assert rig.settle(end) == [True]
    states, counts = rig.states(), rig.counts()
    assert rig.settle(end) == [True]
    assert rig.storage.turn("n.1", [end], [], 0).settled == [True]
    assert (rig.states(), rig.counts()) == (states, counts)


@pytest.mark.parametrize("kind", ["ack", "retry", "requeue", "bury", "cancel"])
def test_an_outcome_after_recovery_changes_nothing(rig: Rig, kind: str) -> None:
    rig.put("a")
    [late] = rig.lease()
    rig.storage.recover_worker("n.1", ["q"], running=[late.token], how="orphaned")
    end = outcome(late, kind, answer=done(late.token), reason="failed")
    assert rig.settle(end) == [False]
    assert rig.states() == {"a": "queued"}
    [current] = rig.lease(worker="n.2")
    assert rig.settle(end) == [False]
    assert rig.states() == {"a": "running"}
    assert rig.storage.answer("a", "q") is None
    assert rig.settle(ack(current), worker="n.2") == [True]
    assert rig.settle(end) == [False]


def test_an_old_token_of_the_same_worker_changes_nothing(rig: Rig) -> None:
    rig.put("a")
    [first] = rig.lease()
    rig.storage.release("n.1", [(first.id, first.queue, first.token)])
    [second] = rig.lease()
    assert rig.settle(ack(first)) == [False]
    assert rig.settle(ack(second)) == [True]
    assert rig.storage.answer("a", "q") is not None


def test_another_workers_token_changes_nothing(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert rig.settle(ack(lease), worker="n.2") == [False]
    assert rig.states() == {"a": "running"}


def test_an_outcome_of_a_job_that_never_was_changes_nothing(rig: Rig) -> None:
    rig.put("a")
    [lease] = rig.lease()
    stranger = ack(lease, b"")
    assert rig.settle(replace(stranger, id="zzz"), ack(lease)) == [False, True]
    assert rig.storage.settle("n.1", [replace(stranger, queue="nowhere")]) == [False]


def test_outcomes_of_a_batch_are_judged_one_by_one(rig: Rig) -> None:
    rig.put("a", "b", "c", "d", "e")
    leases = rig.lease(5)
    rig.storage.release("n.1", [(lease.id, lease.queue, lease.token) for lease in leases])
    leases2 = rig.lease(5)
    ends = [ack(leases2[0]), ack(leases[1]), outcome(leases2[2], "bury", reason="failed"),
            outcome(leases2[3], "retry"), outcome(leases2[4], "requeue", delay_ms=60_000)]  # fmt: skip
    assert rig.settle(*ends) == [True, False, True, True, True]
    assert rig.states() == {"b": "running", "c": "dead", "d": "queued", "e": "scheduled"}


def test_outcomes_of_several_queues_go_in_one_turn(rig2: Rig) -> None:
    rig2.put("a", "b")
    rig2.put("c", queue="r")
    leases = rig2.lease(3)
    assert rig2.settle(*map(ack, leases)) == [True, True, True]
    assert rig2.states() == {}
    assert [rig2.storage.answer(lease.id, lease.queue) is not None for lease in leases] == [
        True
    ] * 3


def test_a_worker_without_a_live_node_can_still_settle(rig: Rig) -> None:
    rig.put("a", "b")
    first, second = rig.lease(2)
    rig.storage.recover_node("n", ["q"])
    assert rig.settle(ack(first)) == [False]
    assert rig.storage.release("n.1", [(second.id, second.queue, second.token)]) == [False]
    assert ids(rig.storage.holdings("n.1", ["q"])) == []

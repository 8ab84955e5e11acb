"""What operators and callers change: cancel, reschedule, revive, purge, pause."""

from __future__ import annotations

from taskqd.clock import now_ms
from taskqd.jobs.job import Marks, State, split_record
from tests.support.rigs.rig import Rig, ack, done, ids, outcome, payload

CANCELLED = done(0, "cancelled")


def _bury(rig: Rig, *job_ids: str) -> None:
    for job_id in job_ids:
        rig.put(job_id)
    for lease in rig.lease(len(job_ids)):
        end = outcome(
            lease, "bury", answer=done(lease.token, "dead"), marks=Marks(3, 3), reason="failed"
        )
        assert rig.settle(end) == [True]


def test_a_queued_job_is_cancelled_at_once(rig: Rig) -> None:
    rig.put("a", "b", "c")
    assert rig.storage.cancel("b", "q", CANCELLED, 60) is True
    assert rig.states() == {"a": "queued", "c": "queued"}
    assert rig.storage.answer("b", "q") == CANCELLED
    row = rig.storage.job("b", "q")
    assert row is not None
    assert row.state is State.CANCELLED
    assert ids(rig.lease(5)) == ["a", "c"]


def test_a_delayed_job_is_cancelled_at_once(rig: Rig) -> None:
    rig.put("a", run_at_ms=now_ms() + 60_000)
    assert rig.storage.cancel("a", None, CANCELLED, 60) is True
    assert rig.states() == {}
    assert rig.storage.promote(["q"]).next_in_s is None


def test_a_suspect_can_be_cancelled(rig: Rig) -> None:
    rig.put("a", "b")
    leases = rig.lease(2)
    rig.storage.recover_worker("n.1", ["q"], running=[job.token for job in leases], how="orphaned")
    assert rig.storage.cancel("a", "q", CANCELLED, 60) is True
    assert ids(rig.lease(5, worker="n.2", alone=True)) == ["b"]


def test_what_does_not_wait_is_not_cancelled(rig: Rig) -> None:
    rig.put("running")
    rig.lease()
    rig.end("ended")
    _bury(rig, "dead")
    for job_id in ("running", "ended", "dead", "unknown"):
        assert rig.storage.cancel(job_id, "q", CANCELLED, 60) is False
        assert rig.storage.cancel(job_id, None, CANCELLED, 60) is False
    assert rig.states() == {"running": "running", "dead": "dead"}


def test_a_cancelled_job_without_answer_is_forgotten(rig: Rig) -> None:
    rig.put("a")
    assert rig.storage.cancel("a", "q", b"", 60) is True
    assert rig.storage.job("a", "q") is None


def test_a_queued_job_can_be_delayed(rig: Rig) -> None:
    rig.put("a", "b")
    at = now_ms() + 60_000
    assert rig.storage.reschedule("a", "q", at) is True
    assert rig.states() == {"a": "scheduled", "b": "queued"}
    row = rig.storage.job("a")
    assert row is not None
    assert row.run_at_ms == at


def test_a_delayed_job_can_run_now(rig: Rig) -> None:
    rig.put("a", run_at_ms=now_ms() + 60_000)
    rig.put("b")
    assert rig.storage.reschedule("a", None, 0) is True
    assert rig.order() == ["b", "a"]


def test_a_delayed_job_gets_another_time(rig: Rig) -> None:
    rig.put("a", run_at_ms=now_ms() + 60_000)
    rig.put("b", run_at_ms=now_ms() + 70_000)
    assert rig.storage.reschedule("a", "q", now_ms() + 200_000) is True
    due = rig.storage.promote(["q"])
    assert due.next_in_s is not None
    assert 60 < due.next_in_s <= 70
    assert rig.counts() == (0, 2, 0, 0)


def test_what_does_not_wait_is_not_rescheduled(rig: Rig) -> None:
    rig.put("a")
    rig.lease()
    _bury(rig, "dead")
    for job_id in ("a", "dead", "unknown"):
        assert rig.storage.reschedule(job_id, "q", now_ms() + 60_000) is False
    assert rig.states() == {"a": "running", "dead": "dead"}


def test_revived_jobs_go_to_the_tail_with_clean_marks(rig: Rig) -> None:
    _bury(rig, "a", "b")
    rig.put("c")
    assert rig.storage.revive(["a", "unknown", "c"]) == 1
    assert rig.counts() == (2, 0, 0, 1)
    assert rig.storage.answer("a", "q") is None
    leases = rig.lease(5)
    assert ids(leases) == ["c", "a"]
    assert leases[1].record == payload("a")
    assert split_record(leases[1].record).marks == Marks()
    assert rig.settle(*map(ack, leases)) == [True, True]
    assert rig.states() == {"b": "dead"}
    assert rig.storage.revive(["a"]) == 0


def test_revived_jobs_keep_their_priority(rig: Rig) -> None:
    rig.put("a", priority=4)
    [lease] = rig.lease()
    rig.settle(outcome(lease, "bury", marks=Marks(1), reason="failed"))
    rig.put("b")
    assert rig.storage.revive(["a"]) == 1
    assert rig.order() == ["a", "b"]


def test_some_dead_letters_are_dropped_or_all(rig: Rig) -> None:
    _bury(rig, "a", "b", "c")
    assert rig.storage.purge_dead(["b", "unknown"]) == 1
    assert rig.states() == {"a": "dead", "c": "dead"}
    assert rig.storage.purge_dead() == 2
    assert rig.states() == {}
    assert rig.storage.purge_dead() == 0
    assert rig.storage.answer("a", "q") is not None


def test_a_purged_queue_keeps_what_runs_and_what_is_dead(rig2: Rig) -> None:
    _bury(rig2, "dead")
    rig2.put("running")
    rig2.lease()
    rig2.put("a", "b")
    rig2.put("c", priority=9)
    rig2.put("d", run_at_ms=now_ms() + 60_000)
    rig2.put("other", queue="r")
    assert rig2.storage.purge_queue("q") == 4
    assert rig2.states() == {"dead": "dead", "running": "running", "other": "queued"}
    assert rig2.counts() == (0, 0, 1, 1)
    assert rig2.storage.purge_queue("q") == 0
    assert rig2.storage.purge_queue("never-used") == 0
    assert rig2.put("a", fresh=False) == [True]


def test_a_pause_outlives_its_jobs_and_ends(rig: Rig) -> None:
    rig.storage.pause("q")
    [row] = rig.storage.queues()
    assert (row.name, row.paused, row.queued) == ("q", True, 0)
    rig.storage.resume("q")
    rig.storage.resume("q")
    assert [row for row in rig.storage.queues() if row.paused] == []


def test_due_jobs_of_a_paused_queue_wait_for_its_resumption(rig: Rig) -> None:
    rig.storage.pause("q")
    rig.put("a", run_at_ms=now_ms() + 20)
    rig.promote(1)
    assert rig.lease() == []
    rig.storage.resume("q")
    assert ids(rig.lease()) == ["a"]

"""Small values that belong to a job: they survive everything but its end."""

from __future__ import annotations

from taskqd.jobs.job import Lease, Marks
from taskqd.storage.features import Features, LeaseKey
from tests.support.rigs.rig import Rig, ack, outcome


def hold(lease: Lease, worker: str = "n.1") -> LeaseKey:
    return LeaseKey(worker, lease.id, lease.queue, lease.token)


def test_a_note_is_read_back_and_replaced(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert features.notes("a", "q") == {}
    assert features.note(hold(lease), "checkpoint", b"1") == "kept"
    assert features.note(hold(lease), "checkpoint", b"\x00\n2") == "kept"
    assert features.note(hold(lease), "progress", b"[1,2]") == "kept"
    assert features.notes("a", "q") == {"checkpoint": b"\x00\n2", "progress": b"[1,2]"}
    assert features.notes("a") == features.notes("a", "q")


def test_once_keeps_the_first_value_over_all_attempts(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert features.note(hold(lease), "once:mail", b"1", once=True) == "kept"
    assert features.note(hold(lease), "once:mail", b"2", once=True) == "present"
    rig.settle(outcome(lease, "requeue", marks=Marks(1), reason="interrupted"))
    [again] = rig.lease(worker="n.2")
    assert features.note(hold(again, "n.2"), "once:mail", b"3", once=True) == "present"
    assert features.notes("a", "q") == {"once:mail": b"1"}


def test_a_note_of_a_lost_lease_is_fenced(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    rig.storage.recover_worker("n.1", ["q"], running=[lease.token], how="orphaned")
    [again] = rig.lease(worker="n.2")
    assert features.note(hold(lease), "checkpoint", b"late") == "fenced"
    assert features.note(hold(again, "n.2"), "checkpoint", b"new") == "kept"
    assert features.note(LeaseKey("n.1", "nobody", "q", 1), "checkpoint", b"") == "fenced"
    assert features.notes("a", "q") == {"checkpoint": b"new"}


def test_notes_survive_a_crash_and_go_with_the_end_of_the_job(rig: Rig, features: Features) -> None:
    rig.put("a", "b", "c")
    for lease in rig.lease(3):
        features.note(hold(lease), "checkpoint", b"1")
    rig.storage.recover_worker("n.1", ["q"], running=[], how="released")
    assert features.notes("b", "q") == {"checkpoint": b"1"}
    a, b, c = rig.lease(3, worker="n.2")
    ends = (ack(a), outcome(b, "bury", reason="failed"), outcome(c, "cancel", answer=b""))
    assert rig.settle(*ends, worker="n.2") == [True] * 3
    assert [features.notes(job_id, "q") for job_id in "abc"] == [{}, {}, {}]
    assert list(rig.storage.leftovers()) == []


def test_purging_a_queue_takes_the_notes_with_it(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    features.note(hold(lease), "checkpoint", b"1")
    rig.settle(outcome(lease, "retry", delay_ms=60_000, marks=Marks(1)))
    assert rig.storage.purge_queue("q") == 1
    assert features.notes("a", "q") == {}
    assert list(rig.storage.leftovers()) == []


def test_notes_go_with_the_job_to_another_host(rig: Rig, features: Features) -> None:
    """Checkpoint, progress and `once` of a job whose node is gone are there for the next one's."""
    rig.put("a")
    [lease] = rig.lease()
    for key in ("checkpoint", "progress", "once:mail"):
        assert features.note(hold(lease), key, b"1") == "kept"
    rig.storage.recover_node("n", ["q"])
    rig.register("other")
    [again] = rig.lease(worker="other.1", alone=True)
    assert features.note(hold(lease), "checkpoint", b"late") == "fenced"
    assert features.note(hold(again, "other.1"), "once:mail", b"2", once=True) == "present"
    assert features.notes("a", "q") == dict.fromkeys(("checkpoint", "progress", "once:mail"), b"1")
    rig.settle(outcome(again, "retry", delay_ms=1, marks=Marks(2)), worker="other.1")
    rig.promote(1)
    [third] = rig.lease(worker="other.2")
    assert set(features.notes("a", "q")) == {"checkpoint", "progress", "once:mail"}
    rig.settle(ack(third), worker="other.2")
    assert features.notes("a", "q") == {}
    rig.storage.retire("other", ["q"])
    assert list(rig.storage.leftovers()) == []

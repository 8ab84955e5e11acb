"""Dead letters that wait under a label and come back by it."""

from __future__ import annotations

import pytest

from taskqd.jobs.job import Marks, join_record
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ack, done, ids, outcome, payload
from tests.support.rigs.ring import rung

MARKS = Marks(attempts=2, failures=1, error="no task named 'later'")


def park(rig: Rig, *job_ids: str, label: str = "later", **fields: int) -> None:
    rig.put(*job_ids, **fields)
    for lease in rig.lease(len(job_ids)):
        end = outcome(
            lease, "bury", answer=done(1, "dead"), marks=MARKS, reason="unknown", parked=label
        )
        assert rig.settle(end) == [True]


def test_a_parked_letter_is_a_dead_letter_that_is_listed_by_its_label(
    rig: Rig, features: Features
) -> None:
    assert features.parked(["q", "never-used"]) == []
    park(rig, "a", "b")
    park(rig, "c", label="other name")
    assert rig.states() == dict.fromkeys("abc", "dead")
    rows = sorted(features.parked(["q"]), key=lambda row: row.label)
    assert [row[:3] for row in rows] == [("q", "later", 2), ("q", "other name", 1)]
    assert all(0 <= row.oldest_s < 60 for row in rows)
    letters = features.parked_letters("q", "later", 10)
    assert [(row.id, row.record) for row in letters] == [
        (name, join_record(MARKS, payload(name))) for name in "ab"
    ]
    assert len(features.parked_letters("q", "later", 1)) == 1
    assert list(rig.storage.leftovers()) == []


def test_unparked_jobs_go_to_the_head_in_their_order_with_their_marks_and_no_answer(
    rig: Rig, features: Features
) -> None:
    park(rig, "a", "b", "c")
    park(rig, "x", label="other")
    rig.put("new")
    assert features.unpark("q", "later", 2) == ["a", "b"]
    assert features.unpark("q", "nobody", 2) == []
    assert rig.states() == {
        "a": "queued", "b": "queued", "new": "queued", "c": "dead", "x": "dead",
    }  # fmt: skip
    assert rig.order() == ["a", "b", "new"]
    assert rig.storage.answer("a", "q") is None
    a, _ = leases = rig.lease(2)
    assert a.record == join_record(MARKS, payload("a"))
    assert rig.settle(*map(ack, leases)) == [True, True]
    assert features.unpark("q", "later", 100) == ["c"]
    assert {row.label for row in features.parked(["q"])} == {"other"}
    assert list(rig.storage.leftovers()) == []


def test_an_unparked_job_keeps_its_priority_and_wakes_a_worker(
    rig: Rig, features: Features
) -> None:
    park(rig, "high", priority=5)
    rig.put("low")
    bell = rig.storage.bell("n.2", ["q"])
    rig.lease()
    bell.arm()
    assert rig.storage.turn("n.2", (), ["q"], 1, idle=True).leases == []
    assert features.unpark("q", "later", 10) == ["high"]
    handed = rung(bell) or rig.lease(worker="n.2")
    assert [lease.id for lease in handed] == ["high"]
    bell.close()


def test_the_worker_that_parked_a_job_last_was_given_it_again_and_again(
    rig: Rig, features: Features
) -> None:
    bells = [rig.storage.bell(worker, ["q"]) for worker in ("n.1", "n.2")]
    park(rig, "a")
    for worker, bell in zip(("n.1", "n.2"), bells, strict=True):
        bell.arm()
        assert rig.storage.turn(worker, (), ["q"], 1, idle=True).leases == []
    assert features.unpark("q", "later", 10) == ["a"]
    longest = bells[0]
    assert ids(rung(longest) or rig.lease(worker="n.1")) == ["a"]
    for bell in bells:
        bell.close()


def test_a_letter_that_is_let_lie_stays_dead_and_does_not_come_back(
    rig: Rig, features: Features
) -> None:
    park(rig, "a", "b")
    assert features.leave_dead("q", ["a", "nobody"]) == 1
    assert features.leave_dead("q", ["a"]) == 0
    assert features.unpark("q", "later", 10) == ["b"]
    assert rig.states() == {"a": "dead", "b": "queued"}


@pytest.mark.parametrize("how", ["revive", "purge_dead", "purge_dead all", "purge"])
def test_a_letter_that_leaves_the_dead_is_parked_no_more(
    rig: Rig, features: Features, how: str
) -> None:
    park(rig, "a")
    if how == "revive":
        assert rig.storage.revive(["a"]) == 1
    elif how == "purge":
        rig.storage.purge(["q"], dead_ttl_s=600, dead_max=0)
    else:
        assert rig.storage.purge_dead(["a"] if how == "purge_dead" else None) == 1
    assert features.parked(["q"]) == []
    assert features.unpark("q", "later", 10) == []
    assert list(rig.storage.leftovers()) == []

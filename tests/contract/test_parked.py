"""Dead letters that wait under a label and come back by it."""

from __future__ import annotations

import pytest

from taskqd.jobs.job import Lease, Marks, join_record
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ack, done, ids, outcome, payload
from tests.support.rigs.ring import rung

MARKS = Marks(attempts=2, failures=1, error="no task named 'later'")


def park(rig: Rig, *job_ids: str, label: str = "later", **fields: int) -> None:
    rig.put(*job_ids, **fields)
    for lease in rig.lease(len(job_ids)):
        park_one(rig, lease, label=label)


def park_one(rig: Rig, lease: Lease, *, worker: str = "n.1", label: str = "later") -> None:
    end = outcome(
        lease, "bury", answer=done(1, "dead"), marks=MARKS, reason="unknown", parked=label
    )
    assert rig.settle(end, worker=worker) == [True]


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


def test_letters_are_leased_by_who_knows_their_label_in_their_order_with_their_marks_and_no_answer(
    rig: Rig, features: Features
) -> None:
    park(rig, "a", "b", "c")
    park(rig, "x", label="other")
    rig.put("new")
    assert features.know("n", "q", "later")
    assert not features.know("n", "q", "later")
    assert not features.know("nobody", "q", "later")
    a, b = leases = rig.lease(2)
    assert ids(leases) == ["a", "b"]
    assert a.record == join_record(MARKS, payload("a"))
    assert a.token < b.token
    assert rig.states() == {
        "a": "running", "b": "running", "new": "queued", "c": "dead", "x": "dead",
    }  # fmt: skip
    assert rig.storage.answer("a", "q") is None
    assert rig.settle(*map(ack, leases)) == [True, True]
    assert ids(rig.lease(5)) == ["c", "new"]
    assert {row.label for row in features.parked(["q"])} == {"other"}
    assert list(rig.storage.leftovers()) == []


def test_the_worker_that_parked_a_job_was_given_it_again_and_again(
    rig: Rig, features: Features
) -> None:
    rig.register("old")
    rig.put("a")
    [lease] = rig.lease(worker="old.1")
    assert features.know("n", "q", "later")
    park_one(rig, lease, worker="old.1")
    assert rig.lease(worker="old.1") == rig.lease(worker="old.2") == []
    assert ids(rig.lease(worker="n.2")) == ["a"]


def test_a_node_that_parks_a_job_does_not_know_its_label(rig: Rig, features: Features) -> None:
    rig.put("a")
    [lease] = rig.lease()
    assert features.know("n", "q", "later")
    park_one(rig, lease)
    assert rig.lease() == []
    assert features.know("n", "q", "later"), "forgotten, so it is news"
    assert ids(rig.lease()) == ["a"]


def test_an_idle_worker_that_knows_a_label_is_woken_and_no_other_gets_what_is_parked(
    rig: Rig, features: Features
) -> None:
    for node in ("old", "other"):
        rig.register(node)
    rig.put("a")
    [lease] = rig.lease(worker="old.1")
    bells = {name: rig.storage.bell(name, ["q"]) for name in ("n.1", "other.1", "old.2")}
    assert features.know("n", "q", "later")
    for name, bell in bells.items():
        bell.arm()
        assert rig.storage.turn(name, (), ["q"], 1, idle=True).leases == []
    park_one(rig, lease, worker="old.1")
    handed = rung(bells["n.1"]) or rig.lease(worker="n.1")
    assert ids(handed) == ["a"]
    assert bells["other.1"].disarm() == bells["old.2"].disarm() == []
    for bell in bells.values():
        bell.close()


def test_an_idle_worker_is_woken_once_its_node_knows_the_label(
    rig: Rig, features: Features
) -> None:
    rig.register("new")
    park(rig, "a")
    bell = rig.storage.bell("new.1", ["q"])
    bell.arm()
    assert rig.storage.turn("new.1", (), ["q"], 1, idle=True).leases == []
    assert features.know("new", "q", "later")
    assert ids(rung(bell) or rig.lease(worker="new.1")) == ["a"]
    bell.close()


def test_schedulers_are_woken_by_the_first_letter_under_a_label(rig: Rig) -> None:
    bell = rig.storage.timer_bell(["q"])
    bell.arm()
    rig.storage.promote(["q"])
    park(rig, "a")
    assert rung(bell) == []
    bell.close()


def test_what_a_node_knew_is_forgotten_with_it(rig: Rig, features: Features) -> None:
    rig.register("new")
    assert features.know("new", "q", "later")
    rig.storage.retire("new", ["q"])
    assert list(rig.storage.leftovers()) == []
    rig.register("new")
    park(rig, "a")
    assert rig.lease(worker="new.1") == []
    assert features.know("new", "q", "later")
    assert ids(rig.lease(worker="new.1")) == ["a"]


def test_letters_come_before_jobs_of_their_priority_and_after_those_of_a_higher_one(
    rig: Rig, features: Features
) -> None:
    park(rig, "high", priority=5)
    park(rig, "low1", "low2", label="low")
    rig.put("urgent", priority=7)
    rig.put("plain")
    for label in ("later", "low"):
        assert features.know("n", "q", label)
    assert ids(rig.lease(1)) == ["urgent"]
    assert ids(rig.lease(1)) == ["high"]
    rig.put("urgent2", priority=7)
    assert ids(rig.lease(2)) == ["urgent2", "plain"]
    assert ids(rig.lease(5)) == ["low1", "low2"]


def test_a_paused_queue_gives_no_letters(rig: Rig, features: Features) -> None:
    park(rig, "a")
    rig.storage.pause("q")
    assert features.know("n", "q", "later")
    assert rig.lease() == []
    rig.storage.resume("q")
    assert ids(rig.lease()) == ["a"]


def test_a_letter_is_taken_off_its_label_by_one_of_several(rig: Rig, features: Features) -> None:
    park(rig, "a", "b", "c")
    assert features.relabel("q", ["a", "nobody"], "") == ["a"]
    assert features.relabel("q", ["a"], "") == []
    assert features.relabel("q", ["b", "c"], "told") == ["b", "c"]
    assert features.relabel("q", ["b", "c"], "told") == []
    assert {row[:3] for row in features.parked(["q"])} == {("q", "told", 2)}
    assert features.know("n", "q", "told")
    assert features.know("n", "q", "later")
    assert ids(rig.lease(5)) == ["b", "c"]
    assert rig.states()["a"] == "dead"
    assert list(rig.storage.leftovers()) == []


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
    assert features.know("n", "q", "later")
    assert ids(rig.lease()) == (["a"] if how == "revive" else [])
    assert list(rig.storage.leftovers()) == []

"""Groups count their members' answers; the last one enqueues the callback, once."""

from __future__ import annotations

from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ack, done, entry, ids
from tests.support.waiting import wait_until


def test_the_last_answer_enqueues_the_callback_once(features: Features, rig: Rig) -> None:
    assert features.group_open("g", "q", 3, entry("callback"), 300)
    assert not features.group_open("g", "q", 3, entry("callback"), 300)
    assert features.group_left("g", "q") == 3
    answers = [done(number) for number in (1, 2, 3)]
    assert features.group_put("g", "q", 2, answers[2]) == 2
    assert features.group_put("g", "q", 2, b"a repeat changes nothing") == 2
    assert features.group_put("g", "q", 0, answers[0]) == 1
    assert rig.order() == []
    assert features.group_answers("g", "q") == [answers[0], None, answers[2]]
    assert features.group_put("g", "q", 1, answers[1]) == 0
    assert features.group_put("g", "q", 1, answers[1]) == 0
    assert ids(rig.lease(5)) == ["callback"]
    assert features.group_answers("g", "q") == answers
    assert features.group_left("g", "q") == 0


def test_an_empty_group_calls_back_at_once(features: Features, rig: Rig) -> None:
    features.group_open("g", "q", 0, entry("callback"), 300)
    assert ids(rig.lease(5)) == ["callback"]
    assert features.group_answers("g", "q") == []
    assert features.group_left("g", "q") == 0


def test_a_group_without_a_callback_only_counts(features: Features, rig: Rig) -> None:
    features.group_open("g", "q", 1, None, 300)
    assert features.group_put("g", "q", 0, done(1)) == 0
    assert rig.order() == []


def test_an_unknown_group_is_said_to_be_unknown(features: Features, rig: Rig) -> None:
    assert features.group_put("g", "q", 0, done(1)) == -1
    assert features.group_left("g", "q") == -1
    assert features.group_answers("g", "q") == []


def test_a_group_past_its_lifetime_is_gone(features: Features, rig: Rig) -> None:
    features.group_open("old", "q", 1, entry("y"), 1)
    wait_until(lambda: features.group_left("old", "q") == -1)
    assert features.group_put("old", "q", 0, done(1)) == -1
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert list(rig.storage.leftovers()) == []


def test_a_group_whose_callback_is_done_may_end_earlier_and_no_later(
    features: Features, rig: Rig
) -> None:
    features.group_open("g", "q", 1, entry("x"), 300)
    features.group_shorten("g", "q", 600)
    assert features.group_put("g", "q", 0, done(1)) == 0
    features.group_shorten("g", "q", 1)
    assert features.group_answers("g", "q") != []
    wait_until(lambda: features.group_left("g", "q") == -1)
    features.group_shorten("g", "q", 600)
    assert features.group_left("g", "q") == -1
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    rig.settle(*map(ack, rig.lease(5)))
    assert list(rig.storage.leftovers()) == []


def test_the_callback_of_a_group_keeps_its_priority_and_wakes_a_worker(
    features: Features, rig: Rig
) -> None:
    rig.put("before")
    features.group_open("g", "q", 1, entry("callback", priority=5), 300)
    features.group_put("g", "q", 0, done(1))
    assert rig.order() == ["callback", "before"]


def test_a_large_group_costs_its_callback_nothing(features: Features, rig: Rig) -> None:
    total = 2000
    features.group_open("g", "q", total, entry("callback"), 300)
    for index in range(total):
        left = features.group_put("g", "q", index, done(index))
    assert left == 0
    [lease] = rig.lease()
    assert len(lease.record) < 100
    assert len(features.group_answers("g", "q")) == total


def test_an_answer_for_a_job_that_never_came_to_be(features: Features, rig: Rig) -> None:
    answer = done(0, "dead")
    assert features.conclude("never", "q", answer, 300)
    assert not features.conclude("never", "q", b"other", 300)
    assert rig.storage.answer("never", "q") == answer
    rig.put("there")
    assert not features.conclude("there", "q", answer, 300)
    assert rig.order() == ["there"]


def test_schedules_are_kept_changed_and_dropped(features: Features, rig: Rig) -> None:
    assert features.schedules() == {}
    features.schedule_put("a", b"1")
    features.schedule_put("b", b"\x00")
    features.schedule_put("a", b"2")
    assert features.schedules() == {"a": b"2", "b": b"\x00"}
    assert features.schedule_drop("a")
    assert not features.schedule_drop("a")
    assert features.schedules() == {"b": b"\x00"}
    features.schedule_drop("b")
    assert list(rig.storage.leftovers()) == []

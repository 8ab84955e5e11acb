"""Rates and unique jobs."""

from __future__ import annotations

from itertools import pairwise

from taskqd.clock import monotonic_s
from taskqd.jobs.job import Marks
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome
from tests.support.waiting import wait_until


def test_a_rate_counts_up_to_its_limit_and_says_when_to_ask_again(
    features: Features, rig: Rig
) -> None:
    assert [features.take("k", 2, 60_000, name) for name in "ab"] == [0, 0]
    waits = [features.take("k", 2, 60_000, name) for name in "cde"]
    assert 55_000 < waits[0] <= 63_020
    assert all(b - a > 20_000 for a, b in pairwise(waits)), waits
    assert features.take("other", 2, 60_000, "c") == 0


def test_no_window_ever_sees_more_than_the_limit(features: Features, rig: Rig) -> None:
    granted: list[tuple[float, float]] = []
    """When each was asked for, and when it was had: it was counted in between."""
    limit, period_s = 5, 0.2
    number = 0
    while len(granted) < 40:
        number += 1
        asked_s = monotonic_s()
        if features.take("k", limit, round(period_s * 1000), str(number % 7)) == 0:
            granted.append((asked_s, monotonic_s()))
    for (asked_s, _), (_, had_s) in zip(granted, granted[limit:], strict=False):
        assert had_s - asked_s > period_s


def test_a_rate_leaves_nothing_behind(features: Features, rig: Rig) -> None:
    features.take("k", 1, 10, "a")
    features.take("k", 1, 10, "b")
    wait_until(lambda: features.take("k", 1, 10, "b") == 0)

    def clean() -> bool:
        rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
        return list(rig.storage.leftovers()) == []

    wait_until(clean)


def test_one_job_of_a_key_at_a_time(features: Features, rig: Rig) -> None:
    assert rig.put("a", unique="user:1") == [True]
    assert rig.put("b", unique="user:1") == [False]
    assert rig.put("c", unique="user:2") == [True]
    assert features.unique_holder("q", "user:1") == "a"
    assert features.unique_holder("q", "user:3") is None
    a, c = rig.lease(5)
    assert rig.put("b", unique="user:1") == [False], "it runs"
    rig.settle(ack(a), ack(c))
    assert rig.put("b", unique="user:1") == [True]


def test_a_batch_with_one_key_twice_has_one_job(features: Features, rig: Rig) -> None:
    assert rig.put("a", "b", unique="k") == [True, False]
    assert rig.order() == ["a"]


def test_a_known_job_takes_no_key_from_the_next_of_its_batch(features: Features, rig: Rig) -> None:
    rig.put("a")
    jobs = [entry("a", unique="k", fresh=False), entry("b", unique="k")]
    assert rig.storage.enqueue(jobs) == [False, True]
    assert features.unique_holder("q", "k") == "b"


def test_a_repeat_of_the_holder_itself_is_known_not_refused_for_ever(
    features: Features, rig: Rig
) -> None:
    rig.put("a", unique="k")
    assert rig.put("a", unique="k", fresh=False) == [False]
    assert rig.order() == ["a"]


def test_a_key_until_start_is_free_once_the_job_is_leased(features: Features, rig: Rig) -> None:
    rig.put("a", unique="k", unique_until="start")
    assert rig.put("b", unique="k", unique_until="start") == [False]
    [a] = rig.lease()
    assert features.unique_holder("q", "k") is None
    assert rig.put("b", unique="k", unique_until="start") == [True]
    rig.settle(ack(a))
    assert features.unique_holder("q", "k") == "b"


def test_a_key_is_held_through_retries_and_freed_by_every_end(features: Features, rig: Rig) -> None:
    for end in ("bury", "cancel"):
        assert rig.put(end, unique="k") == [True]
        [lease] = rig.lease()
        rig.settle(outcome(lease, "retry", delay_ms=0, marks=Marks(1, 1)))
        assert rig.put("x", unique="k") == [False]
        [lease] = rig.lease()
        rig.settle(outcome(lease, end, reason="failed"))
        assert features.unique_holder("q", "k") is None
    rig.put("cancelled", unique="k")
    rig.storage.cancel("cancelled", "q", b"", 0)
    rig.put("purged", unique="k")
    rig.storage.purge_queue("q")
    assert rig.put("last", unique="k") == [True]
    assert ids(rig.lease(9)) == ["last"]


def test_unique_jobs_leave_nothing_behind(features: Features, rig: Rig) -> None:
    rig.put("a", unique="k")
    rig.put("b", unique="s", unique_until="start")
    rig.settle(*map(ack, rig.lease(2)))
    assert list(rig.storage.leftovers()) == []

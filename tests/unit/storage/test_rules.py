"""What every storage decides alike, as pure functions."""

from __future__ import annotations

import re

import pytest

from taskqd.jobs.job import Outcome
from taskqd.storage.redis.keyspace.scripts import script
from taskqd.storage.rules import (
    GONE_MS,
    lock_decision,
    place,
    rate_decision,
    rate_window_ms,
    refusal_of_unregistered,
)

TCP_DELIVERS_MS = 924_600
"""How long Linux sends what was not acknowledged (ip-sysctl: tcp_retries2 is 15)."""


@pytest.mark.parametrize(
    ("kind", "delay_ms", "called", "where"),
    [
        ("ack", 0, False, "ended"),
        ("cancel", 0, False, "ended"),
        ("bury", 0, False, "dead"),
        ("retry", 0, False, "tail"),
        ("retry", 5, False, "later"),
        ("retry", 5, True, "later"),
        ("requeue", 0, False, "head"),
        ("requeue", -1, True, "head"),
        ("requeue", 5, False, "later"),
        ("requeue", 5, True, "tail"),
    ],
)
def test_each_outcome_has_its_place(kind: str, delay_ms: int, called: bool, where: str) -> None:
    assert place(Outcome("a", "q", 1, kind, delay_ms=delay_ms), called=called) == where


def test_an_outcome_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'forget'"):
        place(Outcome("a", "q", 1, "forget"), called=False)


@pytest.mark.parametrize(
    ("holders", "is_gone", "decision"),
    [
        ((), False, "free"),
        (("b",), False, "free"),
        (("b", "c"), False, "full"),
        (("a", "b"), False, "held"),
        (("a", "b"), True, "held"),
        ((), True, "gone"),
        (("b", "c"), True, "gone"),
    ],
)
def test_a_lock_of_two_places_says(holders: tuple[str, ...], is_gone: bool, decision: str) -> None:
    assert lock_decision(holders, "a", 2, is_gone=is_gone) == decision


def test_a_rate_that_is_not_used_up_counts() -> None:
    assert rate_decision([1000], [], 2, 100, 1010) is None


def test_a_rate_that_is_used_up_tells_when_its_oldest_start_is_over() -> None:
    refused = rate_decision([1000, 1010], [], 2, 100, 1020)
    assert refused is not None
    assert refused.until_ms == 1000 + rate_window_ms(100)
    assert refused.wait_ms == refused.until_ms - 1020


def test_those_who_are_refused_are_told_times_a_share_apart() -> None:
    first = rate_decision([1000, 1010], [], 2, 100, 1020)
    assert first is not None
    second = rate_decision([1000, 1010], [first.until_ms], 2, 100, 1020)
    assert second is not None
    assert second.until_ms == first.until_ms + 50


def test_a_refusal_never_asks_for_no_time_at_all() -> None:
    refused = rate_decision([1000], [], 1, 100, 5000)
    assert refused is not None
    assert refused.wait_ms == 1


def test_a_refused_worker_is_told_which_queues_lack_its_node() -> None:
    assert "'n.1' is not registered for q, r:" in refusal_of_unregistered("n.1", ["q", "r"])


def test_a_dead_worker_is_known_for_longer_than_a_kernel_delivers() -> None:
    """Each storage keeps its mark as long; a script has the number written out."""
    assert GONE_MS > TCP_DELIVERS_MS
    kept = re.search(r"'gone', now_ms\(\) \+ (\d+)", script("recover").text)
    assert kept is not None
    assert int(kept[1]) == GONE_MS

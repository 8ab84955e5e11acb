"""When a node's lease counts as over."""

from __future__ import annotations

import pytest

from taskqd.jobs.job import Marks, Reason, State
from taskqd.storage import expiry
from taskqd.storage.expiry import Pulse

LEASE_MS = 10_000


def _beats(*times_ms: int) -> Pulse:
    pulse = None
    for now_ms in times_ms:
        pulse = expiry.felt(pulse, now_ms, LEASE_MS)
    assert pulse is not None
    return pulse


def test_a_pulse_is_unbroken_while_somebody_is_served_twice_in_a_lease() -> None:
    assert _beats(0, 2000, 7000, 12_000, 12_000) == Pulse(12_000, 0)


@pytest.mark.parametrize("jump_ms", [-3_600_000, -1, 5001, 3_600_000], ids=str)
def test_a_silence_and_a_clock_that_was_set_break_the_pulse(jump_ms: int) -> None:
    now_ms = 2000 + jump_ms
    assert _beats(0, 2000, now_ms) == Pulse(now_ms, now_ms)
    assert _beats(0, 2000, now_ms, now_ms + 2000).since_ms == now_ms


def test_a_short_lease_does_not_make_a_moment_a_silence() -> None:
    assert expiry.felt(Pulse(0, 0), 500, lease_ms=50).since_ms == 0
    assert expiry.felt(Pulse(0, 0), 501, lease_ms=50).since_ms == 501


def test_a_lease_is_over_when_all_had_its_length_to_renew() -> None:
    assert expiry.is_over(20_000, 20_000, LEASE_MS, Pulse(20_000, 10_000))
    assert not expiry.is_over(20_001, 20_000, LEASE_MS, Pulse(20_000, 10_000))
    assert not expiry.is_over(0, 20_000, LEASE_MS, Pulse(20_000, 10_001))


def test_no_lease_ends_later_than_its_length_from_now() -> None:
    assert expiry.ends_by(5000, 1000, LEASE_MS) == 5000
    assert expiry.ends_by(3_600_000, 1000, LEASE_MS) == 11_000


def test_a_crash_that_is_taken_back_is_an_interruption() -> None:
    assert expiry.taken_back(Marks(2, 0, 1, 2, "e"), 2) == Marks(2, 0, 2, 1, "e")


@pytest.mark.parametrize("marks", [Marks(), Marks(attempts=1, crashes=1), Marks(attempts=2)])
def test_marks_that_were_cleared_since_stay_as_they_are(marks: Marks) -> None:
    assert expiry.taken_back(marks, 2) == marks


@pytest.mark.parametrize(
    ("state", "reason", "counts"),
    [
        (State.QUEUED, "", True),
        (State.DEAD, Reason.LOST, True),
        (State.DEAD, Reason.POISONED, True),
        (State.DEAD, Reason.FAILED, False),
        (State.RUNNING, "", False),
        (State.SCHEDULED, "", False),
    ],
)
def test_a_late_end_counts_where_nobody_has_begun_again(
    state: State, reason: str, counts: bool
) -> None:
    assert expiry.counts_late(2, Marks(attempts=2, crashes=1), state, reason) is counts
    assert not expiry.counts_late(2, Marks(attempts=3, crashes=1), state, reason)

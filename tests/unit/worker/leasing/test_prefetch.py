"""How many jobs a worker takes beyond those that its slots can start now."""

from __future__ import annotations

import pytest

from taskqd.worker.leasing.prefetch import AHEAD_MAX, Prefetch

MS = 1_000_000


def fed(capacity: int, mean_ms: float, rounds: int = 20) -> Prefetch:
    ahead = Prefetch(capacity)
    for _ in range(rounds):
        ahead.measured(10, int(10 * mean_ms * MS))
    return ahead


@pytest.mark.parametrize(
    ("mean_ms", "expected"),
    [(0.001, AHEAD_MAX), (0.5, 10), (1, 5), (5, 1), (9, 1), (20, 0), (1000, 0)],
)
def test_stock_is_five_milliseconds_of_measured_work(mean_ms: float, expected: int) -> None:
    assert fed(1, mean_ms).ahead == expected


def test_stock_grows_with_the_slots_that_use_it_up() -> None:
    assert fed(10, 1).ahead == 50


def test_read_ahead_begins_with_one_and_doubles() -> None:
    ahead = Prefetch(1)
    grown = []
    assert ahead.limit(0) == 1
    for _ in range(9):
        ahead.measured(1, 1)
        grown.append(ahead.ahead)
    assert grown == [1, 2, 4, 8, 16, 32, 64, 128, 128]


def test_read_ahead_falls_at_once_when_jobs_turn_long() -> None:
    ahead = fed(1, 0.01)
    ahead.stalled()
    assert ahead.limit(1) == 0
    assert ahead.limit(0) == 1


def test_more_is_asked_for_when_half_is_left() -> None:
    ahead = fed(1, 0.01)
    assert not ahead.worth_asking(1 + 65)
    assert ahead.worth_asking(1 + 64)
    assert ahead.limit(1 + 64) == 64


def test_a_free_slot_is_always_worth_asking_for() -> None:
    ahead = Prefetch(10)
    assert ahead.worth_asking(9)
    assert ahead.limit(9) == 1

"""Which ticks of a periodic task are due."""

from __future__ import annotations

import itertools

import pytest

from taskqd.worker.scheduler.due_ticks import ALL_MAX, COUNT_MAX, LATE_MS, firing, floor

MINUTE = 60_000

NOON = 1_700_000_000_000 // MINUTE * MINUTE


def every(period_ms: int):
    return lambda ms: (ms // period_ms + 1) * period_ms


def test_a_tick_fires_when_its_time_has_come() -> None:
    plan = firing(every(MINUTE), NOON, NOON + MINUTE, "skip")
    assert plan.ticks == [NOON + MINUTE]
    assert plan.missed == 0
    assert firing(every(MINUTE), NOON, NOON + MINUTE - 1, "skip").ticks == []


def test_the_cursor_never_goes_back_with_the_clock() -> None:
    assert firing(every(MINUTE), NOON, NOON - 3600_000, "all").cursor_ms == NOON


def test_ticks_that_are_a_little_late_all_fire_whatever_the_policy() -> None:
    plan = firing(every(1000), NOON, NOON + 5000, "skip")
    assert plan.ticks == [NOON + second * 1000 for second in range(1, 6)]


@pytest.mark.parametrize(
    ("policy", "late", "missed"), [("skip", 0, 10), ("once", 1, 9), ("all", 10, 0)]
)
def test_missed_ticks_follow_the_policy(policy: str, late: int, missed: int) -> None:
    down_ms = 10 * MINUTE + LATE_MS
    plan = firing(every(MINUTE), NOON, NOON + down_ms, policy)
    assert plan.ticks[-1] == NOON + down_ms
    assert len(plan.ticks) - 1 == late
    assert plan.missed == missed


def test_once_fires_the_newest_missed_tick_even_after_a_year() -> None:
    year = 366 * 86_400_000
    plan = firing(every(1000 * 3600), NOON, NOON + year, "once")
    late = [tick for tick in plan.ticks if tick <= NOON + year - LATE_MS]
    assert late == [(NOON + year - LATE_MS) // 3_600_000 * 3_600_000]
    assert plan.missed == COUNT_MAX - 1


def test_all_catches_up_piece_by_piece_without_a_gap() -> None:
    now = NOON + 2500 * 1000 + LATE_MS
    cursor, fired = NOON, []
    for _ in itertools.count():
        plan = firing(every(1000), cursor, now, "all")
        fired += plan.ticks
        cursor = plan.cursor_ms
        if cursor == now:
            break
    assert fired == [NOON + second * 1000 for second in range(1, 2561)]


def test_ticks_that_are_closer_than_one_look_takes_are_not_skipped() -> None:
    plan = firing(every(10), NOON, NOON + MINUTE, "skip")
    assert plan.cursor_ms == plan.ticks[-1] == NOON + COUNT_MAX * 10
    assert firing(every(10), plan.cursor_ms, NOON + MINUTE, "skip").ticks[0] == plan.cursor_ms + 10


@pytest.mark.parametrize("period_ms", [1000, MINUTE])
def test_all_is_bounded_to_the_newest_ticks(period_ms: int) -> None:
    now = NOON + (ALL_MAX + 500) * period_ms + LATE_MS
    cursor, dropped = floor(every(period_ms), NOON, now)
    assert cursor == NOON + 500 * period_ms
    assert dropped == 500
    assert floor(every(period_ms), cursor, now) == (cursor, 0)


def test_a_rule_that_has_no_more_ticks_fires_none() -> None:
    assert firing(lambda ms: None, NOON, NOON + 10 * MINUTE, "all").ticks == []

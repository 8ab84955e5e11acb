"""The marks of memory."""

from __future__ import annotations

import pytest

from taskqd.settings import LimitSettings
from taskqd.supervisor.state import memory
from taskqd.supervisor.state.memory import MemoryMark, MemoryState, Pressure

LIMITS = LimitSettings()


def at(percent: float) -> Pressure:
    return Pressure(round(percent * 10), 1000)


def noted(*percents: float, limits: LimitSettings = LIMITS) -> MemoryState:
    known = MemoryState()
    for percent in percents:
        memory.note(known, at(percent), limits)
    return known


@pytest.mark.parametrize(
    ("percent", "mark"),
    [
        (79.9, 0),
        (80, MemoryMark.RECYCLE),
        (90, MemoryMark.HOLD),
        (94.9, MemoryMark.HOLD),
        (95, MemoryMark.STOP),
        (120, 3),
    ],
)
def test_a_mark_counts_when_two_looks_have_found_it(percent: float, mark: int) -> None:
    assert noted(percent).mark == 0
    assert noted(percent, percent).mark == mark
    assert noted(percent, 10).mark == 0


def test_a_mark_that_is_off_is_never_passed() -> None:
    limits = LimitSettings(memory_stop_percent=None, memory_hold_percent=None)
    known = noted(99, 99, limits=limits)
    assert (known.mark, known.held) == (MemoryMark.RECYCLE, False)


def test_leasing_goes_on_only_some_way_below_the_mark() -> None:
    assert noted(91, 91).held
    assert noted(91, 91, 89, 86, 85.1).held
    assert not noted(91, 91, 84.9).held

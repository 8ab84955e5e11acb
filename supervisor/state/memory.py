"""How short memory is: three marks, in percent of the control group's limit.  Pure.

A mark counts when two looks in a row have found it passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from taskqd.settings import LimitSettings

RELEASE_PERCENT = 5.0
"""So far below the second mark jobs are leased again."""


class MemoryMark(IntEnum):
    """How much of the limit is used: the higher the mark, the harder the measure."""

    NONE = 0
    RECYCLE = 1
    """Replace an idle worker that has grown."""
    HOLD = 2
    """Lease no job."""
    STOP = 3
    """Kill the largest worker."""


class Pressure(NamedTuple):
    used_bytes: int
    limit_bytes: int

    @property
    def percent(self) -> float:
        return 100.0 * self.used_bytes / self.limit_bytes


@dataclass(slots=True)
class MemoryState:
    """What is known of the control group's memory; without a limit nothing ever is."""

    pressure: Pressure | None = None
    mark: MemoryMark = MemoryMark.NONE
    """The highest mark that two looks have found passed."""
    glimpsed: MemoryMark = MemoryMark.NONE
    """The highest mark passed at the last look."""
    held: bool = False
    """No job is leased."""
    recycle_at_s: float = 0.0
    stop_at_s: float = 0.0
    """When such a measure may be taken again."""


def passed(percent: float, limits: LimitSettings) -> MemoryMark:
    """Return the highest mark that is passed."""
    marks = (
        (MemoryMark.STOP, limits.memory_stop_percent),
        (MemoryMark.HOLD, limits.memory_hold_percent),
        (MemoryMark.RECYCLE, limits.memory_recycle_percent),
    )
    return next((mark for mark, at in marks if at is not None and percent >= at), MemoryMark.NONE)


def note(memory: MemoryState, pressure: Pressure | None, limits: LimitSettings) -> None:
    """Take in one look."""
    memory.pressure = pressure
    now = passed(pressure.percent, limits) if pressure is not None else MemoryMark.NONE
    memory.mark, memory.glimpsed = min(now, memory.glimpsed), now
    hold_percent = limits.memory_hold_percent
    if pressure is None or hold_percent is None:
        memory.held = False
    elif memory.mark >= MemoryMark.HOLD:
        memory.held = True
    elif pressure.percent < hold_percent - RELEASE_PERCENT:
        memory.held = False

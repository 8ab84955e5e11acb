"""Which ticks of a periodic task are due.  Pure: the clock is given.

A tick is *due* when its time has come, and *missed* when it was not fired within `LATE_MS` of it:
the daemon was down, or could not reach its storage.  What becomes of missed ticks is the task's
policy; due ones fire, each once for all daemons, because the storage knows their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

LATE_MS = 60_000
AT_ONCE_MAX = 1000
"""Ticks looked at in one go; "all" continues with the rest at the next look."""
_WINDOWS_MS = (3_600_000, 86_400_000, 32 * 86_400_000, 367 * 86_400_000)

NextAfter = Callable[[int], int | None]


class Firing(NamedTuple):
    """What to do for one task now."""

    ticks: list[int]
    """To fire, oldest first."""
    missed: int
    """Ticks that are missed and not fired (at most `AT_ONCE_MAX` are counted)."""
    cursor_ms: int
    """Up to here all is dealt with."""


def firing(next_after: NextAfter, cursor_ms: int, now_ms: int, policy: str) -> Firing:
    """Return what to fire of the ticks in (cursor_ms, now_ms].

    `policy` for missed ones: "skip" fires none of them, "once" the newest, "all" each.
    """
    late_until_ms = now_ms - LATE_MS
    late = _walk(next_after, cursor_ms, late_until_ms)
    if policy == "all" and len(late) == AT_ONCE_MAX:
        return Firing(late, 0, late[-1])
    on_time = _walk(next_after, max(cursor_ms, late_until_ms), now_ms)
    fired_late = _by_policy(next_after, late, late_until_ms, policy)
    ticks = fired_late + on_time
    return Firing(ticks, len(late) - len(fired_late), max(cursor_ms, now_ms))


def _by_policy(
    next_after: NextAfter, late: list[int], late_until_ms: int, policy: str
) -> list[int]:
    if policy == "all":
        return late
    if policy == "skip" or not late:
        return []
    if len(late) < AT_ONCE_MAX:
        return late[-1:]
    return [_newest(next_after, late, late_until_ms)]


def _newest(next_after: NextAfter, late: list[int], until_ms: int) -> int:
    """Return the newest tick up to `until_ms`, looking back no further than is needed."""
    for window_ms in _WINDOWS_MS:
        cursor_ms, newest = until_ms - window_ms, None
        while ticks := _walk(next_after, cursor_ms, until_ms):
            cursor_ms = newest = ticks[-1]
        if newest is not None:
            return newest
    return late[-1]


def _walk(next_after: NextAfter, after_ms: int, until_ms: int) -> list[int]:
    """Return the ticks in (after_ms, until_ms], at most `AT_ONCE_MAX`, oldest first."""
    ticks: list[int] = []
    while len(ticks) < AT_ONCE_MAX:
        tick_ms = next_after(ticks[-1] if ticks else after_ms)
        if tick_ms is None or tick_ms > until_ms:
            break
        ticks.append(tick_ms)
    return ticks

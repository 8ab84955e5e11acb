"""Which ticks of a periodic task are due.  Pure: the clock is given.

A tick is *due* when its time has come, and *missed* when it was not fired within `LATE_MS` of it:
the daemon was down, or could not reach its storage.  What becomes of missed ticks is the task's
policy; due ones fire, each once for all daemons, because the storage knows their names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

LATE_MS = 60_000
COUNT_MAX = 1000
"""Ticks looked at in one go."""
FIRE_MAX = 100
"""Missed ticks that "all" fires in one go; it continues at the next look."""
ALL_MAX = 10_000
"""Missed ticks that "all" fires at most: the newest ones."""
FLOOR_WINDOW_MS = 3_600_000
_WINDOWS_MS = (3_600_000, 86_400_000, 32 * 86_400_000, 367 * 86_400_000)

NextAfter = Callable[[int], int | None]


class Firing(NamedTuple):
    """What to do for one task now."""

    ticks: list[int]
    """To fire, oldest first."""
    missed: int
    """Ticks that are missed and not fired (at most `COUNT_MAX` are counted)."""
    cursor_ms: int
    """Up to here all is dealt with."""
    more: bool = False
    """There are missed ticks to fire at once after these."""


def is_late(next_after: NextAfter, cursor_ms: int, now_ms: int) -> bool:
    """Return whether a tick is missed."""
    if cursor_ms >= now_ms - LATE_MS:
        return False
    tick_ms = next_after(cursor_ms)
    return tick_ms is not None and tick_ms <= now_ms - LATE_MS


def firing(next_after: NextAfter, cursor_ms: int, now_ms: int, policy: str) -> Firing:
    """Return what to fire of the ticks in (cursor_ms, now_ms].

    `policy` for missed ones: "skip" fires none of them, "once" the newest, "all" each (see `floor`).
    """
    late_until_ms = now_ms - LATE_MS
    late = _walk(next_after, cursor_ms, late_until_ms, FIRE_MAX if policy == "all" else COUNT_MAX)
    if policy == "all" and len(late) == FIRE_MAX:
        return Firing(late, 0, late[-1], more=True)
    on_time = _walk(next_after, max(cursor_ms, late_until_ms), now_ms, COUNT_MAX)
    fired_late = _by_policy(next_after, late, late_until_ms, policy)
    until_ms = on_time[-1] if len(on_time) == COUNT_MAX else now_ms
    return Firing(fired_late + on_time, len(late) - len(fired_late), max(cursor_ms, until_ms))


def floor(next_after: NextAfter, cursor_ms: int, now_ms: int) -> tuple[int, int]:
    """Return the cursor from which "all" catches up with the newest `ALL_MAX` missed ticks, and how
    many are older (at most `COUNT_MAX` are counted)."""
    late_until_ms = now_ms - LATE_MS
    if len(_walk(next_after, cursor_ms, late_until_ms, FIRE_MAX)) < FIRE_MAX:
        return cursor_ms, 0
    window_ms = FLOOR_WINDOW_MS
    while True:
        start_ms = max(cursor_ms, late_until_ms - window_ms)
        newest: deque[int] = deque(maxlen=ALL_MAX + 1)
        tick_ms = next_after(start_ms)
        while tick_ms is not None and tick_ms <= late_until_ms:
            newest.append(tick_ms)
            tick_ms = next_after(tick_ms)
        if len(newest) > ALL_MAX:
            return newest[0], len(_walk(next_after, cursor_ms, newest[0], COUNT_MAX))
        if start_ms == cursor_ms:
            return cursor_ms, 0
        window_ms *= 2


def _by_policy(
    next_after: NextAfter, late: list[int], late_until_ms: int, policy: str
) -> list[int]:
    if policy == "all":
        return late
    if policy == "skip" or not late:
        return []
    if len(late) < COUNT_MAX:
        return late[-1:]
    return [_newest(next_after, late, late_until_ms)]


def _newest(next_after: NextAfter, late: list[int], until_ms: int) -> int:
    """Return the newest tick up to `until_ms`, looking back no further than is needed."""
    for window_ms in _WINDOWS_MS:
        cursor_ms, newest = until_ms - window_ms, None
        while ticks := _walk(next_after, cursor_ms, until_ms, COUNT_MAX):
            cursor_ms = newest = ticks[-1]
        if newest is not None:
            return newest
    return late[-1]


def _walk(next_after: NextAfter, after_ms: int, until_ms: int, limit: int) -> list[int]:
    """Return the ticks in (after_ms, until_ms], at most `limit`, oldest first."""
    ticks: list[int] = []
    while len(ticks) < limit:
        tick_ms = next_after(ticks[-1] if ticks else after_ms)
        if tick_ms is None or tick_ms > until_ms:
            break
        ticks.append(tick_ms)
    return ticks

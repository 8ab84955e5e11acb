"""When periodic tasks tick.  Pure.

Two rules: `every` ticks at multiples of its period since the epoch, so all daemons agree without
talking; `crontab` ticks by the calendar of a time zone, by the rules of Debian's cron where clocks
change: a job at a fixed time that is skipped runs right after the gap, one at a time that comes
twice runs once; with a minute or hour field that begins with `*` it goes by the clock as it is.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from taskqd.errors import ConfigError
from taskqd.jobs.job import clip

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
"""zoneinfo looks for other names in packages, and makes much of them."""
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Rule(Protocol):
    """Tells ticks; every tick is a Unix time in milliseconds."""

    def next_after(self, ms: int, zone: tzinfo = UTC) -> int | None:
        """Return the first tick later than `ms`, None if there is none any more."""
        ...


class every:  # noqa: N801 - written like a function where it is used
    """Tick each `seconds`, `minutes` or `hours` (they add up), at multiples since the epoch."""

    def __init__(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> None:
        total_s = seconds + minutes * 60 + hours * 3600
        total_ms = round(total_s * 1000) if math.isfinite(total_s) else 0
        if total_ms < 1:
            raise ConfigError(
                f"every(seconds={seconds!r}, minutes={minutes!r}, hours={hours!r}):"
                " expected a period of at least a millisecond"
            )
        self.period_ms = total_ms

    def next_after(self, ms: int, zone: tzinfo = UTC) -> int | None:
        return (ms // self.period_ms + 1) * self.period_ms

    def __repr__(self) -> str:
        return f"every(seconds={self.period_ms / 1000:g})"


_EXPECTED = (
    "expected minute (0-59), hour (0-23), day of the month (1-31), month (1-12) and day of the week"
    " (0-7), with the second (0-59) first where there are six fields"
)


class crontab:  # noqa: N801 - written like a function where it is used
    """Tick by the calendar: `crontab(minute="*/5")`, `crontab("30 2 * * mon-fri")`, `crontab("@daily")`.

    Fields take Vixie syntax: numbers, names (`jan`, `mon`), lists, ranges, steps, `L` and `5#2`.
    With `second` (or six fields, seconds first) it ticks within the minute too.
    """

    def __init__(
        self,
        minute: str | int = "*",
        hour: str | int = "*",
        day: str | int = "*",
        month: str | int = "*",
        day_of_week: str | int = "*",
        *,
        second: str | int | None = None,
    ) -> None:
        self.expression = _expression(minute, hour, day, month, day_of_week, second)
        try:
            parsed = CronSim(self.expression, datetime(2026, 1, 1, tzinfo=UTC))
        except (CronSimError, ValueError) as error:
            raise ConfigError(
                f"crontab {clip(repr(self.expression))}: {error}; {_EXPECTED}"
            ) from None
        self._minutes, self._seconds_ms = self.expression, [0]
        fields = self.expression.split()
        if len(fields) == 6 and not (fields[1].startswith("*") or fields[2].startswith("*")):
            # A fixed time: which minutes it has is told by the rules for those, with their quirks.
            self._minutes = " ".join(fields[1:])
            self._seconds_ms = sorted(second * 1000 for second in parsed.seconds)
        self._known: tuple[tzinfo, int, int | None] = (UTC, 0, 0)
        """Zone, a time, and the first tick after it: the scheduler asks for it again and again."""

    def next_after(self, ms: int, zone: tzinfo = UTC) -> int | None:
        of, since_ms, tick_ms = self._known
        if of is zone and since_ms <= ms and (tick_ms is None or ms < tick_ms):
            return tick_ms
        tick_ms = self._find(ms, zone)
        self._known = zone, ms, tick_ms
        return tick_ms

    def _find(self, ms: int, zone: tzinfo) -> int | None:
        if self._seconds_ms == [0]:
            return _next(self._minutes, ms, zone)
        minute_ms = _next(self._minutes, ms // 60_000 * 60_000 - 1, zone)
        while minute_ms is not None:
            for second_ms in self._seconds_ms:
                if minute_ms + second_ms > ms:
                    return minute_ms + second_ms
            minute_ms = _next(self._minutes, minute_ms, zone)
        return None

    def __repr__(self) -> str:
        return f"crontab({self.expression!r})"


def _next(expression: str, ms: int, zone: tzinfo) -> int | None:
    start = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)
    try:
        return round(next(CronSim(expression, start)).timestamp() * 1000)
    except StopIteration:
        return None


def _expression(
    minute: str | int,
    hour: str | int,
    day: str | int,
    month: str | int,
    day_of_week: str | int,
    second: str | int | None,
) -> str:
    first = str(minute).strip()
    if first.startswith("@"):
        if first.lower() not in _ALIASES:
            raise ConfigError(f"crontab {first!r}: expected one of {', '.join(_ALIASES)}")
        return _ALIASES[first.lower()]
    if " " in first:
        return first
    fields = [first, str(hour), str(day), str(month), str(day_of_week)]
    if second is not None:
        fields.insert(0, str(second))
    return " ".join(fields)


def zone_of(name: str) -> tzinfo:
    """Return the time zone.  Raises ConfigError for a name that the zone database lacks."""
    if name.upper() == "UTC":
        return UTC
    try:
        if _ZONE_NAME.fullmatch(name):
            return ZoneInfo(name)
        raise ValueError(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"unknown time zone {clip(repr(name))}; expected a name like 'Europe/Rome' or 'UTC'"
            " (on a system without zone data: pip install tzdata)"
        ) from None

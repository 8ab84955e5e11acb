"""When periodic tasks tick.  Pure.

Two rules: `every` ticks at multiples of its period since the epoch, so all daemons agree without
talking; `crontab` ticks by the calendar of a time zone, by the rules of Debian's cron where clocks
change (a job of the hour that is skipped runs right after the gap; one of the hour that comes
twice runs once, unless its hour field is `*`).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from taskqd.errors import ConfigError
from taskqd.job import clip

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
            CronSim(self.expression, datetime(2026, 1, 1, tzinfo=UTC))
        except (CronSimError, ValueError) as error:
            raise ConfigError(f"crontab {clip(repr(self.expression))}: {error}") from None

    def next_after(self, ms: int, zone: tzinfo = UTC) -> int | None:
        start = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)
        try:
            return round(next(CronSim(self.expression, start)).timestamp() * 1000)
        except StopIteration:
            return None

    def __repr__(self) -> str:
        return f"crontab({self.expression!r})"


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

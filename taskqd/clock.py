"""The two clocks: wall time for what is stored, monotonic time for what is waited for."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

from taskqd.errors import ConfigError


def now_ms() -> int:
    """Return Unix time in whole milliseconds."""
    return time.time_ns() // 1_000_000


monotonic_s = time.monotonic
monotonic_ns = time.monotonic_ns


def moment_ms(value: Any, now: int, zone: tzinfo, *, absolute: bool = False) -> int:
    """Return the Unix ms of a datetime (naive: in `zone`), a timedelta or a number.

    Numbers are seconds from now, or Unix seconds where `absolute`.
    """
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=zone)
        return round(aware.timestamp() * 1000)
    if isinstance(value, timedelta):
        return now + round(value.total_seconds() * 1000)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * 1000) + (0 if absolute else now)
    raise ConfigError(f"{value!r}: expected a datetime, a timedelta or a number of seconds")

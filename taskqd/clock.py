"""The clocks: the storage's for what is stored, monotonic time for what is waited for.

Whose clock counts where: `docs/internals/clocks.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from taskqd.errors import ConfigError, StorageError

READ_S = 5.0
"""A reading of the storage's clock is carried on for so long."""
_SET_MS = 250
"""This host's clock was set where it has moved by more against the one that nobody sets."""


def now_ms() -> int:
    """Return Unix time in whole milliseconds."""
    return time.time_ns() // 1_000_000


monotonic_s = time.monotonic
monotonic_ns = time.monotonic_ns


def _boot_ms() -> float:
    """Return the time since boot, in which a host that slept has aged too; nobody can set it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


class _Reading(NamedTuple):
    theirs_ms: float
    boot_ms: float
    wall_ms: int


class StorageClock:
    """The storage's clock, as one process knows it: read now and then, and carried on in between by a
    clock that nobody sets.  Threads may share it.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        """`read` returns the storage's Unix ms, or raises StorageError."""
        self._read = read
        self._reading: _Reading | None = None

    def now_ms(self) -> int:
        """Return the storage's time, asking it where the last reading is old.

        Raises StorageError where it cannot be asked and never was.
        """
        try:
            self.refresh(self._read)
        except StorageError:
            if self._reading is None:
                raise
        return self.estimate_ms()

    def estimate_ms(self) -> int:
        """Return the storage's time without asking it; before the first reading, this host's."""
        reading = self._reading
        if reading is None:
            return now_ms()
        return round(reading.theirs_ms + _boot_ms() - reading.boot_ms)

    def refresh(self, read: Callable[[], int], *, after_s: float = READ_S) -> None:
        """Read the clock where the last reading is so old, or this host's clock was set since.

        Raises StorageError where it cannot be read; the last reading goes on, and counts as new: a
        silent storage makes who asks wait.
        """
        reading = self._reading
        if reading is not None and not _is_stale(reading, _boot_ms(), now_ms(), after_s):
            return
        before_ms = _boot_ms()
        try:
            theirs_ms = read()
        except StorageError:
            if reading is not None:
                carried_ms = reading.theirs_ms + before_ms - reading.boot_ms
                self._reading = _Reading(carried_ms, before_ms, now_ms())
            raise
        after_ms = _boot_ms()
        self._reading = _Reading(theirs_ms, (before_ms + after_ms) / 2, now_ms())


def _is_stale(reading: _Reading, boot_ms: float, wall_ms: int, after_s: float) -> bool:
    aged_ms = boot_ms - reading.boot_ms
    return aged_ms >= after_s * 1000 or abs(wall_ms - reading.wall_ms - aged_ms) > _SET_MS


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

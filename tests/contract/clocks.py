"""A wall clock that tests set forward and back, for every storage.

Memory and SQLite go by the clock of this process, which is replaced.  A server's clock cannot be
moved from here; instead, what it has kept is moved the other way, as a clock set by so much would
have left it.
"""

from __future__ import annotations

import time

import pytest

from taskqd.storage.base import Storage
from taskqd.storage.redis import RedisStorage

HOUR_MS = 3_600_000


class WallClock:
    """Moves the clock by which one storage goes, for rates and locks."""

    def __init__(self, storage: Storage, patch: pytest.MonkeyPatch) -> None:
        self._storage = storage
        self._patch = patch
        self._time_ns = time.time_ns
        self._ahead_ms = 0

    def set(self, by_ms: int) -> None:
        """Set the clock forward (or back, where `by_ms` is negative)."""
        if isinstance(self._storage, RedisStorage):
            _move_kept(self._storage, -by_ms)
        else:
            self._ahead_ms += by_ms
            ahead_ns = self._ahead_ms * 1_000_000
            self._patch.setattr(time, "time_ns", lambda: self._time_ns() + ahead_ns)


def _move_kept(storage: RedisStorage, by_ms: int) -> None:
    """Move all times that rates and locks have kept."""
    call, own = storage._link.call, storage.at("")
    for pattern in ("rate:*", "told:*", "locks"):
        for key in storage.scan(own[pattern]):
            members = call("ZRANGE", key, 0, -1, "WITHSCORES")
            for member, score in zip(members[::2], members[1::2], strict=True):
                # NEVER, and 0 where only waiters are left, are no times.
                if 0 < float(score) < 9e15:
                    call("ZADD", key, int(float(score)) + by_ms, member)
            _keep_longer(storage, key, by_ms)
    for key in storage.scan(own["lock:*"]):
        places = call("HGETALL", key)
        for owner, value in zip(places[::2], places[1::2], strict=True):
            token, until, worker = value.split(b" ", 2)
            if int(until):
                call("HSET", key, owner, b"%s %d %s" % (token, int(until) + by_ms, worker))


def _keep_longer(storage: RedisStorage, key: str, by_ms: int) -> None:
    """Move the server's own lifetime of a key; what is over is gone."""
    ends_ms = storage._link.call("PEXPIRETIME", key)
    if ends_ms > 0:
        storage._link.call("PEXPIREAT", key, ends_ms + by_ms)

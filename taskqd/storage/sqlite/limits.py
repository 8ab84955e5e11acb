"""Locks, rates and unique keys, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.clock import now_ms
from taskqd.errors import ConfigError
from taskqd.storage.features import LockRow
from taskqd.storage.rules import (
    lock_decision,
    rate_decision,
    rate_window_ms,
    worker_of,
)
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.extras import (
    CUT_PLACES,
    is_gone,
    unique_holder,
    wake_waiter,
)
from taskqd.storage.sqlite.rows.transaction import Transaction

_TAKE_PLACE = """
INSERT INTO place (space, name, owner, worker, token, until_ms, ttl_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_EXPIRED_PLACES = "DELETE FROM place WHERE space=? AND name=? AND until_ms<=?"
_PLACES = """
SELECT name, owner, token, min(until_ms-?2, ifnull(ttl_ms, until_ms-?2)) FROM place
WHERE space=?1 AND (until_ms IS NULL OR until_ms>?2) ORDER BY name, token"""
_CUT_PLACES = f"{CUT_PLACES} AND name=?3"
_RENEW = "UPDATE place SET until_ms=?, ttl_ms=? WHERE space=? AND name=? AND owner=? AND until_ms>?"
_STARTS_AHEAD = """
UPDATE start SET ms=?1, until_ms=?2 WHERE space=?3 AND key=?4 AND ms>?1"""


class LimitCalls(Base):
    """The contract's calls that let only so many jobs run."""

    def lock(
        self,
        name: str,
        owner: str,
        *,
        slots: int = 1,
        ttl_s: float | None = None,
        waiter: tuple[str, str] | None = None,
    ) -> int | None:
        if ttl_s is None and not worker_of(owner):
            raise ConfigError(f"lock {name!r}: owner {owner!r} is no worker's job; give it a ttl_s")

        def body(unit: Transaction) -> int | None:
            now = now_ms()
            unit.db.rows(_CUT_PLACES, (now, unit.space, name))
            unit.db.rows(_EXPIRED_PLACES, (unit.space, name, now))
            held = dict(
                unit.db.rows(
                    "SELECT owner, token FROM place WHERE space=? AND name=?", (unit.space, name)
                )
            )
            gone = owner not in held and is_gone(unit, worker_of(owner))
            decision = lock_decision(held, owner, slots, is_gone=gone)
            if decision in ("gone", "full"):
                if decision == "full" and waiter is not None:
                    _wait(unit, name, waiter)
                return None
            if waiter is not None:
                _wait_no_more(unit, name, waiter)
            return held.get(owner) or _take_place(unit, name, owner, ttl_s)

        return self._write(body)

    def renew_lock(self, name: str, owner: str, ttl_s: float) -> bool:
        def body(unit: Transaction) -> bool:
            now, ttl_ms = now_ms(), int(ttl_s * 1000)
            unit.db.rows(_CUT_PLACES, (now, unit.space, name))
            args = (now + ttl_ms, ttl_ms, unit.space, name, owner, now)
            return unit.db.count(_RENEW, args) == 1

        return self._write(body)

    def unlock(self, name: str, owner: str) -> bool:
        def body(unit: Transaction) -> bool:
            sql = "DELETE FROM place WHERE space=? AND name=? AND owner=?"
            if not unit.db.count(sql, (unit.space, name, owner)):
                return False
            wake_waiter(unit, name)
            return True

        return self._write(body)

    def locks(self) -> list[LockRow]:
        now = now_ms()
        return [
            LockRow(name, owner, token, None if left_ms is None else left_ms / 1000)
            for name, owner, token, left_ms in self._db.rows(_PLACES, (self._space, now))
        ]

    def flush_locks(self, names: Sequence[str] | None = None) -> int:
        rows = [row for row in self.locks() if names is None or row.name in names]
        return sum(self.unlock(row.name, row.owner) for row in rows)

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        return self._write(lambda unit: _take(unit, key, limit, period_ms, who))

    def unique_holder(self, queue: str, key: str) -> str | None:
        unit = self._reader()
        line = unit.line(queue)
        return unique_holder(unit, line, key) if line else None


def _take_place(unit: Transaction, name: str, owner: str, ttl_s: float | None) -> int:
    [(token,)] = unit.db.rows("UPDATE store SET token=token+1 RETURNING token")
    ttl_ms = None if ttl_s is None else int(ttl_s * 1000)
    until_ms = None if ttl_ms is None else now_ms() + ttl_ms
    place = (unit.space, name, owner, worker_of(owner), token, until_ms, ttl_ms)
    unit.db.rows(_TAKE_PLACE, place)
    taken: int = token
    return taken


def _wait(unit: Transaction, name: str, waiter: tuple[str, str]) -> None:
    unit.db.rows(
        "INSERT INTO waiter (space, name, queue, id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (unit.space, name, *waiter),
    )


def _wait_no_more(unit: Transaction, name: str, waiter: tuple[str, str]) -> None:
    sql = "DELETE FROM waiter WHERE space=? AND name=? AND queue=? AND id=?"
    unit.db.rows(sql, (unit.space, name, *waiter))


def _take(unit: Transaction, key: str, limit: int, period_ms: int, who: str) -> int:
    now = now_ms()
    window_ms = rate_window_ms(period_ms)
    at = (unit.space, key)
    # What lies ahead was counted by a clock that was set back since: it counts as now, for
    # otherwise all would wait until the clock is there again.
    if unit.db.count(_STARTS_AHEAD, (now, now + window_ms, *at)):
        unit.db.rows("DELETE FROM told WHERE space=? AND key=?", at)
    unit.db.rows("DELETE FROM start WHERE space=? AND key=? AND ms<=?", (*at, now - window_ms))
    unit.db.rows("DELETE FROM told WHERE space=? AND key=? AND (who=? OR ms<=?)", (*at, who, now))
    sql = "SELECT ms FROM start WHERE space=? AND key=? ORDER BY ms DESC LIMIT ?"
    starts = [ms for (ms,) in unit.db.rows(sql, (*at, limit))][::-1]
    last = unit.db.row("SELECT max(ms) FROM told WHERE space=? AND key=? HAVING max(ms)", at)
    refused = rate_decision(starts, last or (), limit, period_ms, now)
    if refused is None:
        sql = "INSERT INTO start (space, key, ms, until_ms) VALUES (?, ?, ?, ?)"
        unit.db.rows(sql, (*at, now, now + window_ms))
        return 0
    told = (*at, who, refused.until_ms)
    unit.db.rows("INSERT INTO told (space, key, who, ms) VALUES (?, ?, ?, ?)", told)
    return refused.wait_ms

"""The second half of the contract on SQLite: notes, standing orders, locks, rates, schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from taskqd.clock import now_ms
from taskqd.errors import ConfigError
from taskqd.storage.features import Hold, LockRow, Noted, Revocation
from taskqd.storage.rules import lock_decision, rate_decision, rate_window_ms, worker_of
from taskqd.storage.sqlite.base import Base
from taskqd.storage.sqlite.extras import is_gone, unique_holder, wake_waiter
from taskqd.storage.sqlite.unit import Unit

_HELD = "SELECT n FROM job WHERE queue=? AND id=? AND state=4 AND rank=? AND pos=?"
_NOTE = "INSERT INTO note (job, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value=excluded.value"
_NOTE_ONCE = "INSERT INTO note (job, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_NOTES = """
SELECT key, value FROM note WHERE job IN
  (SELECT n FROM job JOIN queue ON queue.id = job.queue
   WHERE queue.space=? AND job.id=? AND (?3 IS NULL OR queue.name=?3))"""
_RUNNING = """
SELECT job.n FROM job JOIN queue ON queue.id = job.queue
WHERE queue.space=? AND job.id=? AND job.state=4 AND (?3 IS NULL OR queue.name=?3)"""
_STOP = """
INSERT INTO stop (job, answer, ttl_s) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET answer=excluded.answer, ttl_s=excluded.ttl_s"""
_ORDER = """
INSERT INTO standing (space, subject, data, until_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET data=excluded.data, until_ms=excluded.until_ms"""
_CHANGE = "UPDATE space SET orders=orders+1 WHERE id=?"
_TAKE_PLACE = """
INSERT INTO place (space, name, owner, worker, token, until_ms, ttl_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_EXPIRED_PLACES = "DELETE FROM place WHERE space=? AND name=? AND until_ms<=?"
_PLACES = """
SELECT name, owner, token, min(until_ms-?2, ifnull(ttl_ms, until_ms-?2)) FROM place
WHERE space=?1 AND (until_ms IS NULL OR until_ms>?2) ORDER BY name, token"""
_CUT = "UPDATE place SET until_ms=?1+ttl_ms WHERE space=?2 AND until_ms>?1+ttl_ms"
"""Ends no later than its length from now: the clock was set back since it was given."""
_CUT_PLACES = f"{_CUT} AND name=?3"
_RENEW = "UPDATE place SET until_ms=?, ttl_ms=? WHERE space=? AND name=? AND owner=? AND until_ms>?"
_FREED_PLACES = "DELETE FROM place WHERE until_ms<=? AND space=? RETURNING name"
_LONELY = """
SELECT DISTINCT name FROM waiter WHERE space=?1 AND NOT EXISTS
  (SELECT 1 FROM place WHERE place.space=?1 AND place.name=waiter.name)"""
_STARTS_AHEAD = """
UPDATE start SET ms=?1, until_ms=?2 WHERE space=?3 AND key=?4 AND ms>?1"""
_PAST = (
    "DELETE FROM standing WHERE until_ms<=? AND space=?",
    "DELETE FROM start WHERE until_ms<=? AND space=?",
    "DELETE FROM party WHERE until_ms<=? AND space=?",
    "DELETE FROM gone WHERE until_ms<=? AND space=?",
    "DELETE FROM told WHERE ms<=? AND space=?",
)
_ORPHAN = "WHERE job NOT IN (SELECT n FROM job WHERE extras) AND ?1 AND ?2"
_LEAKS = (
    ("orders past their time", "SELECT count(*) FROM standing WHERE space=? AND until_ms<=?"),
    ("starts past their time", "SELECT count(*) FROM start WHERE space=? AND until_ms<=?"),
    ("groups past their time", "SELECT count(*) FROM party WHERE space=? AND until_ms<=?"),
    ("marks past their time", "SELECT count(*) FROM gone WHERE space=? AND until_ms<=?"),
    ("places past their time", "SELECT count(*) FROM place WHERE space=? AND until_ms<=?"),
    ("notes without a job", f"SELECT count(*) FROM note {_ORPHAN}"),  # noqa: S608 - constants
    ("keys without a job", f"SELECT count(*) FROM uniq {_ORPHAN}"),  # noqa: S608 - constants
    (
        "parked letters that are none",
        "SELECT count(*) FROM parked WHERE job NOT IN (SELECT n FROM job WHERE state=5) AND ?1 AND ?2",
    ),
    ("stops without a job", f"SELECT count(*) FROM stop {_ORPHAN}"),  # noqa: S608 - constants
)
_SCHEDULE = """
INSERT INTO schedule (space, name, data) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET data=excluded.data"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Revocation).decode


class Kept(Base):
    # -- notes -------------------------------------------------------------------------------

    def note(self, hold: Hold, key: str, value: bytes, *, once: bool = False) -> Noted:
        def body(unit: Unit) -> Noted:
            line = unit.line(hold.queue)
            row = line and unit.db.row(_HELD, (line.id, hold.job_id, hold.worker, hold.token))
            if not row:
                return "fenced"
            unit.db.rows("UPDATE job SET extras=extras|1 WHERE n=?", row)
            args = (*row, key, value)
            if once:
                return "kept" if unit.db.count(_NOTE_ONCE, args) else "present"
            unit.db.rows(_NOTE, args)
            return "kept"

        return self._write(body)

    def notes(self, job_id: str, queue: str | None = None) -> dict[str, bytes]:
        return dict(self._db.rows(_NOTES, (self._space, job_id, queue)))

    # -- revocation --------------------------------------------------------------------------

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        def body(unit: Unit) -> bool:
            row = unit.db.row(_RUNNING, (unit.space, job_id, queue))
            if row is None:
                return False
            unit.db.rows(_STOP, (*row, answer, ttl_s))
            unit.db.rows("UPDATE job SET extras=extras|1 WHERE n=?", row)
            return True

        return self._write(body)

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        args = (subject, _encode(revocation), now_ms() + ttl_s * 1000)

        def body(unit: Unit) -> None:
            unit.db.rows(_ORDER, (unit.space, *args))
            unit.db.rows(_CHANGE, (unit.space,))

        self._write(body)

    def restore(self, subject: str) -> bool:
        sql = "DELETE FROM standing WHERE space=? AND subject=? RETURNING until_ms"

        def body(unit: Unit) -> list[tuple[int]]:
            unit.db.rows(_CHANGE, (unit.space,))
            return unit.db.rows(sql, (unit.space, subject))

        rows = self._write(body)
        return any(until > now_ms() for (until,) in rows)

    def revocations(self) -> dict[str, Revocation]:
        sql = "SELECT subject, data FROM standing WHERE space=? AND until_ms>?"
        rows = self._db.rows(sql, (self._space, now_ms()))
        return {subject: _decode(data) for subject, data in rows}

    # -- locks -------------------------------------------------------------------------------

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

        def body(unit: Unit) -> int | None:
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
        def body(unit: Unit) -> bool:
            now, ttl_ms = now_ms(), int(ttl_s * 1000)
            unit.db.rows(_CUT_PLACES, (now, unit.space, name))
            args = (now + ttl_ms, ttl_ms, unit.space, name, owner, now)
            return unit.db.count(_RENEW, args) == 1

        return self._write(body)

    def unlock(self, name: str, owner: str) -> bool:
        def body(unit: Unit) -> bool:
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

    # -- rates and unique jobs ---------------------------------------------------------------

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        return self._write(lambda unit: _take(unit, key, limit, period_ms, who))

    def unique_holder(self, queue: str, key: str) -> str | None:
        unit = self._db_unit()
        line = unit.line(queue)
        return unique_holder(unit, line, key) if line else None

    # -- schedules ---------------------------------------------------------------------------

    def schedule_put(self, name: str, data: bytes) -> None:
        def body(unit: Unit) -> None:
            unit.db.rows(_SCHEDULE, (unit.space, name, data))
            unit.wakes_timers = True

        self._write(body)

    def schedule_drop(self, name: str) -> bool:
        def body(unit: Unit) -> bool:
            sql = "DELETE FROM schedule WHERE space=? AND name=?"
            unit.wakes_timers = True
            return unit.db.count(sql, (unit.space, name)) == 1

        return self._write(body)

    def schedules(self) -> dict[str, bytes]:
        sql = "SELECT name, data FROM schedule WHERE space=? ORDER BY name"
        return dict(self._db.rows(sql, (self._space,)))


def _take_place(unit: Unit, name: str, owner: str, ttl_s: float | None) -> int:
    [(token,)] = unit.db.rows("UPDATE store SET token=token+1 RETURNING token")
    ttl_ms = None if ttl_s is None else int(ttl_s * 1000)
    until_ms = None if ttl_ms is None else now_ms() + ttl_ms
    place = (unit.space, name, owner, worker_of(owner), token, until_ms, ttl_ms)
    unit.db.rows(_TAKE_PLACE, place)
    taken: int = token
    return taken


def _wait(unit: Unit, name: str, waiter: tuple[str, str]) -> None:
    unit.db.rows(
        "INSERT INTO waiter (space, name, queue, id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (unit.space, name, *waiter),
    )


def _wait_no_more(unit: Unit, name: str, waiter: tuple[str, str]) -> None:
    sql = "DELETE FROM waiter WHERE space=? AND name=? AND queue=? AND id=?"
    unit.db.rows(sql, (unit.space, name, *waiter))


def _take(unit: Unit, key: str, limit: int, period_ms: int, who: str) -> int:
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


def forget_old(unit: Unit) -> None:
    """Drop what is past its lifetime, and wake who waits for a lock that nobody holds."""
    now = now_ms()
    for sql in _PAST:
        unit.db.rows(sql, (now, unit.space))
    unit.db.rows(
        "DELETE FROM reply WHERE space=?1 AND party NOT IN (SELECT id FROM party WHERE space=?1)",
        (unit.space,),
    )
    unit.db.rows(_CUT, (now, unit.space))
    unit.db.rows(_FREED_PLACES, (now, unit.space))
    for (name,) in unit.db.rows(_LONELY, (unit.space,)):
        wake_waiter(unit, name)


def leftovers(unit: Unit) -> Iterator[str]:
    """Name what belongs to no job and is past its lifetime."""
    now = now_ms()
    for what, sql in _LEAKS:
        [(count,)] = unit.db.rows(sql, (unit.space, now))
        if count:
            yield f"{count} {what}"
    for (name,) in unit.db.rows(_LONELY, (unit.space,)):
        yield f"waiter for lock {name}, which nobody holds"

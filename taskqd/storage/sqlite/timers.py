"""What happens when its time has come, on SQLite: delayed jobs, ticks, schedules, the end of lifetimes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry
from taskqd.storage.base import Due, Fired
from taskqd.storage.rules import (
    split_tick,
)
from taskqd.storage.sqlite.control import end_dead
from taskqd.storage.sqlite.file.connection import (
    WAL_BYTES_MAX,
)
from taskqd.storage.sqlite.file.wake import (
    queue_place,
    timer_place,
    waiter_place,
)
from taskqd.storage.sqlite.rows.base import STEP_ROWS, Base
from taskqd.storage.sqlite.rows.entries import add
from taskqd.storage.sqlite.rows.lifetimes import past_rows
from taskqd.storage.sqlite.rows.transaction import DEAD, ENDED, Line, Transaction

FREE_PAGES_MAX = 2048
"""Free pages beyond these go back to the disk, some at each purge."""
_DUE = (
    "SELECT n, priority FROM job WHERE queue=? AND state=3 AND rank<=? ORDER BY rank, pos LIMIT ?"
)
_QUEUE_DUE = "UPDATE job SET state=1, rank=9-priority, pos=? WHERE n=?"
_NEXT = "SELECT rank FROM job WHERE queue=? AND state=3 ORDER BY rank LIMIT 1"
_PURGE_ENDED = """
DELETE FROM job WHERE n IN (SELECT n FROM job WHERE queue=? AND state=6 AND rank<=? LIMIT ?)"""
_OLD_DEAD = "SELECT n FROM job WHERE queue=? AND state=5 AND rank<=? ORDER BY rank, pos LIMIT ?"
_FIRST_DEAD = "SELECT n FROM job WHERE queue=? AND state=5 ORDER BY rank, pos LIMIT ?"
_TICK = """
INSERT INTO tick (space, name, ms, until_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET until_ms=excluded.until_ms WHERE until_ms<=?"""
_SCHEDULE = """
INSERT INTO schedule (space, name, data) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET data=excluded.data"""


class TimerCalls(Base):
    """The contract's calls of schedulers."""

    def promote(self, queues: Sequence[str], limit: int = 1000) -> Due:
        unit = self._reader()
        next_in_s = _next_in_s(unit, queues)
        promoted = 0
        if next_in_s == 0:
            promoted = self._write(lambda unit: _promote(unit, queues, min(limit, STEP_ROWS)))
            next_in_s = _next_in_s(unit, queues)
        return Due(promoted, next_in_s)

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        name, ms = split_tick(tick)

        def body(unit: Transaction) -> Fired:
            now = now_ms()
            if unit.db.count(_TICK, (unit.space, name, ms, now + ttl_s * 1000, now)) == 0:
                return Fired.BEFORE
            return Fired.HELD if jobs and not any(add(unit, jobs)) else Fired.NOW

        return self._write(body, grows=True)

    def last_tick(self, name: str) -> int | None:
        newest: int | None = self._only(
            "SELECT max(ms) FROM tick WHERE space=? AND name=? AND until_ms>?",
            (self._space, name, now_ms()),
        )[0]
        return newest

    def purge(self, queues: Sequence[str], *, dead_ttl_s: int, dead_max: int) -> int:
        now = now_ms()
        dropped = 0
        for line in self._reader().some(queues):
            dropped += self._purge_dead_letters(line, now, dead_ttl_s, dead_max)
            dropped += self._purge_answers(line, now)
        for past in past_rows(self._reader()):
            done = self._in_steps(past.rows, past.drop)
            dropped += done if past.counts else 0
        self._tidy(queues)
        return dropped

    def _purge_answers(self, line: Line, now: int) -> int:
        old = _size(self._reader(), line, ENDED, now)
        return self._repeat(
            lambda unit: unit.db.count(_PURGE_ENDED, (line.id, now, STEP_ROWS)), old
        )

    def _purge_dead_letters(self, line: Line, now: int, dead_ttl_s: int, dead_max: int) -> int:
        unit = self._reader()
        oldest = now - dead_ttl_s * 1000
        old = _size(unit, line, DEAD, oldest)
        over = _size(unit, line, DEAD) - old - dead_max
        return self._repeat(
            lambda unit: end_dead(unit, unit.db.rows(_OLD_DEAD, (line.id, oldest, STEP_ROWS))),
            old,
        ) + self._purge_first_dead(line, over)

    def _purge_first_dead(self, line: Line, count: int) -> int:
        dropped = 0

        def body(unit: Transaction) -> int:
            some = min(count - dropped, STEP_ROWS)
            return end_dead(unit, unit.db.rows(_FIRST_DEAD, (line.id, some)))

        while dropped < count and (done := self._write(body)):
            dropped += done
        return dropped

    def _tidy(self, queues: Sequence[str]) -> None:
        """Give room back to the disk, and remove what dead processes left beside the file."""
        places = [queue_place(line.id) for line in self._reader().some(queues)]
        self._wake.sweep([*places, timer_place(self._space), waiter_place(self._space)])
        if self._only("SELECT freelist_count FROM pragma_freelist_count")[0] > FREE_PAGES_MAX:
            self._give_back()
        elif _bytes(f"{self.path}-wal") > WAL_BYTES_MAX:
            self._shrink()

    def schedule_put(self, name: str, data: bytes) -> None:
        def body(unit: Transaction) -> None:
            unit.db.rows(_SCHEDULE, (unit.space, name, data))
            unit.wakes_timers = True

        self._write(body)

    def schedule_drop(self, name: str) -> bool:
        def body(unit: Transaction) -> bool:
            sql = "DELETE FROM schedule WHERE space=? AND name=?"
            unit.wakes_timers = True
            return unit.db.count(sql, (unit.space, name)) == 1

        return self._write(body)

    def schedules(self) -> dict[str, bytes]:
        sql = "SELECT name, data FROM schedule WHERE space=? ORDER BY name"
        return dict(self._db.rows(sql, (self._space,)))


def _promote(unit: Transaction, queues: Sequence[str], limit: int) -> int:
    promoted = 0
    for line in unit.some(queues):
        due = unit.db.rows(_DUE, (line.id, now_ms(), limit - promoted))
        unit.db.many(_QUEUE_DUE, [(line.tail + i, n) for i, (n, _) in enumerate(due, 1)])
        line.tail += len(due)
        line.ready += len(due)
        unit.ring(line, len(due))
        promoted += len(due)
    return promoted


def _next_in_s(unit: Transaction, queues: Sequence[str]) -> float | None:
    due = [
        row[0]
        for (queue_id,) in _queue_ids(unit, queues)
        for row in unit.db.rows(_NEXT, (queue_id,))
    ]
    return max(0, min(due) - now_ms()) / 1000 if due else None


def _queue_ids(unit: Transaction, queues: Sequence[str]) -> list[tuple[int]]:
    return [(line.id,) for line in unit.some(queues)]


def _size(unit: Transaction, line: Line, state: int, until: int | None = None) -> int:
    """Return how many jobs of a state there are, or how many with a rank up to `until`."""
    sql = "SELECT count(*) FROM job WHERE queue=? AND state=?"
    if until is None:
        [(count,)] = unit.db.rows(sql, (line.id, state))
    else:
        [(count,)] = unit.db.rows(f"{sql} AND rank<=?", (line.id, state, until))
    found: int = count
    return found


def _bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0

"""Control and introspection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taskqd.clock import now_ms
from taskqd.jobs.job import State, strip_marks
from taskqd.storage.base import JobRow, QueueRow
from taskqd.storage.rules import answer_state
from taskqd.storage.sqlite import disk
from taskqd.storage.sqlite.base import Base
from taskqd.storage.sqlite.connection import SAFE_VERSION, library_version
from taskqd.storage.sqlite.features import leftovers as features_leftovers
from taskqd.storage.sqlite.times import end_dead
from taskqd.storage.sqlite.unit import DEAD, ENDED, HELD, LATER, READY, SUSPECT, Line, Unit

PAGE_ROWS = 500
STATES = {
    State.QUEUED: (SUSPECT, READY),
    State.SCHEDULED: (LATER,),
    State.RUNNING: (HELD,),
    State.DEAD: (DEAD,),
    State.DONE: (ENDED,),
    State.CANCELLED: (ENDED,),
}
_PAGE = "SELECT * FROM job WHERE queue=? AND state=? ORDER BY rank, pos, n LIMIT ?"
_NEXT_PAGE = """
SELECT * FROM job WHERE queue=? AND state=? AND (rank, pos, n) > (?, ?, ?)
ORDER BY rank, pos, n LIMIT ?"""
_COUNT = "SELECT count(*) FROM job WHERE queue=? AND state=?"
_WAITING = "SELECT n, state, priority FROM job WHERE queue=? AND id=? AND state IN (1, 2, 3)"
_CANCEL = """
UPDATE job SET state=6, rank=?, pos=0, suspect=0, answer=?, record=x'' WHERE n=?"""
_PURGE = """
DELETE FROM job WHERE n IN
  (SELECT n FROM job WHERE queue=? AND state IN (1, 2, 3) LIMIT 5000) RETURNING state"""
_LEAKS = (
    ("answer of job ", "SELECT id FROM job WHERE queue=?1 AND state=6 AND rank<=?2"),
    (
        "job without the node of its worker: ",
        """SELECT id FROM job WHERE queue=?1 AND state=4 AND NOT EXISTS
           (SELECT 1 FROM member m WHERE m.queue=?1 AND job.rank LIKE m.node || '.%') AND ?2""",
    ),
    (
        "member without a node: ",
        """SELECT node FROM member WHERE queue=?1 AND ?2 AND node NOT IN
           (SELECT id FROM node WHERE space=(SELECT space FROM queue WHERE id=?1))""",
    ),
)


class View(Base):
    # -- control -----------------------------------------------------------------------------

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        def body(unit: Unit) -> bool:
            for line, n, state, _ in _waiting(unit, job_id, queue):
                unit.forget_place(line, state)
                if answer and ttl_s > 0:
                    unit.db.rows(_CANCEL, (now_ms() + ttl_s * 1000, answer, n))
                else:
                    unit.db.rows("DELETE FROM job WHERE n=?", (n,))
                unit.ended.append(job_id)
                return True
            return False

        return self._write(body)

    def reschedule(self, job_id: str, queue: str | None, run_at_ms: int) -> bool:
        def body(unit: Unit) -> bool:
            for line, n, state, priority in _waiting(unit, job_id, queue):
                unit.forget_place(line, state)
                if run_at_ms > now_ms():
                    unit.to_later(line, n, run_at_ms)
                else:
                    unit.to_tail(line, n, priority)
                return True
            return False

        return self._write(body)

    def revive(self, job_ids: Sequence[str]) -> int:
        def body(unit: Unit) -> int:
            found = list(_dead(unit, job_ids))
            for line, n, priority, record in found:
                unit.db.rows("UPDATE job SET reason='', answer=x'' WHERE n=?", (n,))
                unit.db.rows("DELETE FROM parked WHERE job=?", (n,))
                unit.to_tail(line, n, priority, strip_marks(record))
            return len(found)

        return self._write(body)

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        def body(unit: Unit) -> int:
            if job_ids is not None:
                return end_dead(unit, [(n,) for _, n, _, _ in _dead(unit, job_ids)])
            sql = "SELECT n FROM job WHERE queue=? AND state=5"
            return sum(end_dead(unit, unit.db.rows(sql, (line.id,))) for line in unit.every())

        return self._write(body)

    def purge_queue(self, queue: str) -> int:
        def body(unit: Unit) -> int:
            gone = 0
            for line in unit.some([queue]):
                for (state,) in unit.db.rows(_PURGE, (line.id,)):
                    unit.forget_place(line, state)
                    gone += 1
            return gone

        total = 0
        while some := self._write(body):
            total += some
        return total

    def pause(self, queue: str) -> None:
        def body(unit: Unit) -> None:
            unit.made_line(queue).paused = True

        self._write(body)

    def resume(self, queue: str) -> None:
        def body(unit: Unit) -> None:
            line = unit.made_line(queue)
            line.paused = False
            unit.ring(line, line.waiting())

        self._write(body)

    # -- introspection -----------------------------------------------------------------------

    def job(self, job_id: str, queue: str | None = None) -> JobRow | None:
        for name, queue_id in self._queue_ids().items():
            if queue is None or name == queue:
                row = self._db.row("SELECT * FROM job WHERE queue=? AND id=?", (queue_id, job_id))
                if row is not None and not (row[3] == ENDED and row[4] <= now_ms()):
                    return _job_row(name, row)
        return None

    def jobs(self, state: State, queue: str | None = None) -> Iterator[JobRow]:
        for name, queue_id in self._queue_ids().items():
            if queue is None or name == queue:
                for place in STATES[state]:
                    rows = (_job_row(name, row) for row in self._pages(queue_id, place))
                    yield from (row for row in rows if row.state is state)

    def _pages(self, queue_id: int, state: int) -> Iterator[tuple[Any, ...]]:
        page = self._db.rows(_PAGE, (queue_id, state, PAGE_ROWS))
        while page:
            now = now_ms()
            yield from (row for row in page if not (row[3] == ENDED and row[4] <= now))
            n, _, _, _, rank, pos, *_ = page[-1]
            page = self._db.rows(_NEXT_PAGE, (queue_id, state, rank, pos, n, PAGE_ROWS))

    def queues(self) -> list[QueueRow]:
        rows = [self._queue_row(line) for line in self._db_unit().every()]
        return [row for row in rows if any(row[1:])]

    def _queue_row(self, line: Line) -> QueueRow:
        later, held, dead = (
            self._only(_COUNT, (line.id, state))[0] for state in (LATER, HELD, DEAD)
        )
        return QueueRow(line.name, line.ready + line.suspects, later, held, dead, line.paused)

    def epoch(self) -> str:
        epoch: str = self._only("SELECT epoch FROM store")[0]
        return epoch

    def ping(self) -> None:
        """Raise where the file cannot be written now."""
        self._write(lambda unit: None)

    def server_ms(self) -> int:
        return now_ms()

    def warnings(self) -> list[str]:
        found = [disk.doubt(self.path)]
        if library_version() < SAFE_VERSION:
            version, safe = (".".join(map(str, v)) for v in (library_version(), SAFE_VERSION))
            found.append(
                f"SQLite {version} can damage the file when it resets its write-ahead log; "
                f"install an apsw with {safe} or newer"
            )
        if self._reserve.is_spent():
            found.append(
                f"sqlite storage {self.path}: no room for its reserve; new jobs may be refused"
            )
        if self._synchronous == "normal":
            found.append("sqlite: synchronous=normal: a power cut may lose the last jobs enqueued")
        return [text for text in found if text]

    def leftovers(self) -> Iterable[str]:
        now = now_ms()
        unit = self._db_unit()
        for line in unit.every():
            for what, sql in _LEAKS:
                for (name,) in self._db.rows(sql, (line.id, now)):
                    yield f"{what}{name} in queue {line.name}"
            counted = tuple(self._only(_COUNT, (line.id, state))[0] for state in (READY, SUSPECT))
            if counted != (line.ready, line.suspects):
                yield f"queue {line.name}: counts {line.ready, line.suspects}, has {counted}"
        for name, ms in self._db.rows(
            "SELECT name, ms FROM tick WHERE space=? AND until_ms<=?", (self._space, now)
        ):
            yield f"tick {name}@{ms}"
        yield from features_leftovers(unit)
        yield from self._wake.unread(self._space)


def _lines(unit: Unit, queue: str | None) -> list[Line]:
    return unit.every() if queue is None else unit.some([queue])


def _waiting(unit: Unit, job_id: str, queue: str | None) -> Iterator[tuple[Line, int, int, int]]:
    """Yield (queue, row number, state, priority) of the waiting jobs of that id."""
    for line in _lines(unit, queue):
        for n, state, priority in unit.db.rows(_WAITING, (line.id, job_id)):
            yield line, n, state, priority


def _dead(unit: Unit, job_ids: Sequence[str]) -> Iterator[tuple[Line, int, int, bytes]]:
    sql = "SELECT n, priority, record FROM job WHERE queue=? AND id=? AND state=5"
    for line in unit.every():
        for job_id in dict.fromkeys(job_ids):
            for n, priority, record in unit.db.rows(sql, (line.id, job_id)):
                yield line, n, priority, record


def _job_row(queue: str, row: tuple[Any, ...]) -> JobRow:
    _, _, job_id, state, rank, _, _, _, reason, answer, record, _ = row
    return JobRow(
        job_id,
        queue,
        answer_state(answer) if state == ENDED else _SHOWN[state],
        record,
        rank if state in (LATER, DEAD) else 0,
        rank if state == HELD else "",
        reason,
        answer,
    )


_SHOWN = {
    READY: State.QUEUED,
    SUSPECT: State.QUEUED,
    LATER: State.SCHEDULED,
    HELD: State.RUNNING,
    DEAD: State.DEAD,
}

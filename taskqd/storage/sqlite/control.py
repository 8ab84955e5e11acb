"""Changes to waiting and dead jobs and to queues, on SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskqd.clock import now_ms
from taskqd.jobs.job import strip_marks
from taskqd.storage.sqlite.rows.base import STEP_ROWS, Base
from taskqd.storage.sqlite.rows.transaction import Line, Transaction

_WAITING = "SELECT n, state, priority FROM job WHERE queue=? AND id=? AND state IN (1, 2, 3)"
_CANCEL = """
UPDATE job SET state=6, rank=?, pos=0, suspect=0, answer=?, record=x'' WHERE n=?"""
_PURGE = """
DELETE FROM job WHERE n IN
  (SELECT n FROM job WHERE queue=? AND state IN (1, 2, 3) LIMIT ?) RETURNING state"""
_SOME_DEAD = "SELECT n FROM job WHERE queue=? AND state=5 LIMIT ?"
_DROP_DEAD = "DELETE FROM job WHERE n=? AND (pos<=? OR answer=x'')"
_END_DEAD = "UPDATE job SET state=6, rank=pos, pos=0, reason='', record=x'' WHERE n=? AND state=5"


class ControlCalls(Base):
    """The contract's calls of operators, and of callers about one job."""

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        def body(unit: Transaction) -> bool:
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
        def body(unit: Transaction) -> bool:
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
        def body(unit: Transaction, some: Sequence[str]) -> int:
            found = list(_dead(unit, some))
            for line, n, priority, record in found:
                unit.db.rows("UPDATE job SET reason='', answer=x'' WHERE n=?", (n,))
                unit.db.rows("DELETE FROM parked WHERE job=?", (n,))
                unit.to_tail(line, n, priority, strip_marks(record))
            return len(found)

        return self._in_steps(list(dict.fromkeys(job_ids)), body)

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        def body(unit: Transaction, some: Sequence[str]) -> int:
            return end_dead(unit, [(n,) for _, n, _, _ in _dead(unit, some)])

        if job_ids is not None:
            return self._in_steps(list(dict.fromkeys(job_ids)), body)
        return sum(self._purge_all_dead(queue_id) for queue_id in self._queue_ids().values())

    def _purge_all_dead(self, queue_id: int) -> int:
        """Drop those that are there now: some die meanwhile, and it is to end."""
        [(expected,)] = self._db.rows(
            "SELECT count(*) FROM job WHERE queue=? AND state=5", (queue_id,)
        )
        return self._repeat(
            lambda unit: end_dead(unit, unit.db.rows(_SOME_DEAD, (queue_id, STEP_ROWS))), expected
        )

    def purge_queue(self, queue: str) -> int:
        def body(unit: Transaction) -> int:
            gone = 0
            for line in unit.some([queue]):
                for (state,) in unit.db.rows(_PURGE, (line.id, STEP_ROWS)):
                    unit.forget_place(line, state)
                    gone += 1
            return gone

        total = 0
        while some := self._write(body):
            total += some
        return total

    def pause(self, queue: str) -> None:
        def body(unit: Transaction) -> None:
            unit.made_line(queue).paused = True

        self._write(body)

    def resume(self, queue: str) -> None:
        def body(unit: Transaction) -> None:
            line = unit.made_line(queue)
            line.paused = False
            unit.ring(line, line.waiting())

        self._write(body)


def _lines(unit: Transaction, queue: str | None) -> list[Line]:
    return unit.every() if queue is None else unit.some([queue])


def _waiting(
    unit: Transaction, job_id: str, queue: str | None
) -> Iterator[tuple[Line, int, int, int]]:
    """Yield (queue, row number, state, priority) of the waiting jobs of that id."""
    for line in _lines(unit, queue):
        for n, state, priority in unit.db.rows(_WAITING, (line.id, job_id)):
            yield line, n, state, priority


def _dead(unit: Transaction, job_ids: Sequence[str]) -> Iterator[tuple[Line, int, int, bytes]]:
    sql = "SELECT n, priority, record FROM job WHERE queue=? AND id=? AND state=5"
    for line in unit.every():
        for job_id in dict.fromkeys(job_ids):
            for n, priority, record in unit.db.rows(sql, (line.id, job_id)):
                yield line, n, priority, record


def end_dead(unit: Transaction, rows: Sequence[tuple[int]]) -> int:
    """Drop dead letters; an answer within its lifetime stays until its end."""
    now = now_ms()
    unit.db.many("DELETE FROM parked WHERE job=?", rows)
    unit.db.many(_DROP_DEAD, [(n, now) for (n,) in rows])
    unit.db.many(_END_DEAD, rows)
    return len(rows)

"""Answers of ended jobs on SQLite, and sleeping until there is one."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep

from taskqd.clock import monotonic_s, now_ms
from taskqd.storage.sqlite.file.bell import wait_fd
from taskqd.storage.sqlite.file.wake import (
    POLL_S,
    POLL_WITHOUT_FIFO_S,
    Fifo,
    waiter_place,
    waiter_prefix,
)
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.transaction import Transaction

NAMES_MAX = 16
"""A waiter for more jobs than these is rung by every answer."""
BREATH_S = 0.02
"""Such a waiter looks again after a ring, but not more often than this."""
_FIND = """
SELECT answer FROM job WHERE queue=?1 AND id=?2
AND (state=6 AND rank>?3 OR state=5 AND pos>?3) AND answer<>x''"""
_CONCLUDE = """
INSERT INTO job (queue, id, state, rank, pos, priority, answer, record)
VALUES (?, ?, 6, ?, 0, 0, ?, x'') ON CONFLICT DO NOTHING"""


class AnswerCalls(Base):
    """The contract's calls of those who wait for a job."""

    def answer(self, job_id: str, queue: str | None = None) -> bytes | None:
        return self.answers([(job_id, queue)])[0]

    def answers(self, jobs: Sequence[tuple[str, str | None]]) -> list[bytes | None]:
        ids = self._queue_ids()
        now = now_ms()
        return [self._answer(ids, job_id, queue, now) for job_id, queue in jobs]

    def _answer(
        self, ids: dict[str, int], job_id: str, queue: str | None, now: int
    ) -> bytes | None:
        places = ids.values() if queue is None else [ids[queue]] if queue in ids else []
        for queue_id in places:
            row = self._db.row(_FIND, (queue_id, job_id, now))
            if row is not None:
                answer: bytes = row[0]
                return answer
        return None

    def wait(self, jobs: Sequence[tuple[str, str | None]], timeout_s: float) -> None:
        if any(self.answers(jobs)):
            return
        deadline = monotonic_s() + timeout_s
        few = len(jobs) <= NAMES_MAX
        prefixes = {waiter_prefix(job_id) for job_id, _ in jobs} if few else {"~"}
        fifo = Fifo(self._wake)
        try:
            heard = fifo.listen([waiter_place(self._space)], sorted(prefixes))
            poll_s = POLL_S if heard else POLL_WITHOUT_FIFO_S
            while not any(self.answers(jobs)):
                left = deadline - monotonic_s()
                if left <= 0:
                    return
                self._sleep(fifo, min(left, poll_s))
                if not few:
                    sleep(min(left, BREATH_S))
        finally:
            fifo.remove()

    def _sleep(self, fifo: Fifo, timeout_s: float) -> None:
        if fifo.fd < 0:
            sleep(timeout_s)
        elif wait_fd(fifo.fd, timeout_s):
            fifo.drain()

    def conclude(self, job_id: str, queue: str, answer: bytes, ttl_s: int) -> bool:
        def body(unit: Transaction) -> bool:
            now = now_ms()
            line = unit.made_line(queue)
            sql = "DELETE FROM job WHERE queue=? AND id=? AND state=6 AND rank<=?"
            unit.db.rows(sql, (line.id, job_id, now))
            args = (line.id, job_id, now + ttl_s * 1000, answer)
            if not unit.db.count(_CONCLUDE, args):
                return False
            unit.ended.append(job_id)
            return True

        return self._write(body)

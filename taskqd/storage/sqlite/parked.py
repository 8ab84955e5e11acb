"""Parked dead letters on SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.clock import now_ms
from taskqd.storage.features import Letter, Parked
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.transaction import Transaction

_ANY = "SELECT EXISTS (SELECT 1 FROM parked)"
_LABELS = "SELECT label, count(*), min(ms) FROM parked WHERE queue=? GROUP BY label"
_LETTERS = """
SELECT job.id, job.record, parked.ms
FROM parked JOIN job ON job.n = parked.job
WHERE parked.queue=? AND parked.label=? ORDER BY parked.ms, job.pos, job.n LIMIT ?"""
_LEAVE_DEAD = """
DELETE FROM parked WHERE job = (SELECT n FROM job WHERE queue=?1 AND id=?2) AND label<>?3"""
_RELABEL = """
UPDATE parked SET label=?3 WHERE job = (SELECT n FROM job WHERE queue=?1 AND id=?2) AND label<>?3"""
_KNOW = "INSERT INTO knower (queue, node, label) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"


class ParkedCalls(Base):
    """The contract's calls for letters that wait under a label."""

    def parked(self, queues: Sequence[str]) -> list[Parked]:
        if not self._only(_ANY)[0]:
            return []
        now = now_ms()
        return [
            Parked(line.name, label, count, (now - oldest) / 1000)
            for line in self._reader().some(queues)
            for label, count, oldest in self._db.rows(_LABELS, (line.id,))
        ]

    def parked_letters(self, queue: str, label: str, limit: int) -> list[Letter]:
        now = now_ms()
        return [
            Letter(job_id, record, (now - ms) / 1000)
            for line in self._reader().some([queue])
            for job_id, record, ms in self._db.rows(_LETTERS, (line.id, label, limit))
        ]

    def know(self, node: str, queue: str, label: str) -> bool:
        def body(unit: Transaction) -> bool:
            line = unit.line(queue)
            if line is None or not line.is_served:
                return False
            is_new = unit.db.count(_KNOW, (line.id, node, label)) == 1
            unit.ring_everybody(line)
            return is_new

        return self._write(body, node=node)

    def relabel(self, queue: str, job_ids: Sequence[str], label: str) -> list[str]:
        sql = _RELABEL if label else _LEAVE_DEAD
        moved: set[str] = set()

        def body(unit: Transaction, some: Sequence[str]) -> int:
            found = {
                job_id
                for line in unit.some([queue])
                for job_id in some
                if unit.db.count(sql, (line.id, job_id, label))
            }
            moved.update(found)
            return len(found)

        self._in_steps(job_ids, body)
        return [job_id for job_id in job_ids if job_id in moved]

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
SELECT job.n, job.id, job.priority, job.record, parked.ms
FROM parked JOIN job ON job.n = parked.job
WHERE parked.queue=? AND parked.label=? ORDER BY parked.ms, job.pos, job.n LIMIT ?"""
_LEAVE_DEAD = """
DELETE FROM parked WHERE job IN (SELECT n FROM job WHERE queue=? AND id=? AND state=5)"""
_EVERYBODY = 10_000


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
            for _, job_id, _, record, ms in self._db.rows(_LETTERS, (line.id, label, limit))
        ]

    def unpark(self, queue: str, label: str, limit: int) -> list[str]:
        def body(unit: Transaction) -> list[str]:
            for line in unit.some([queue]):
                found = unit.db.rows(_LETTERS, (line.id, label, limit))
                for n, _, priority, _, _ in reversed(found):
                    unit.db.rows("UPDATE job SET reason='', answer=x'' WHERE n=?", (n,))
                    unit.db.rows("DELETE FROM parked WHERE job=?", (n,))
                    unit.to_head(line, n, priority, None)
                if found:
                    # Everybody: the latest idle may be the one that has just parked it.
                    unit.ring(line, _EVERYBODY)
                return [row[1] for row in found]
            return []

        return self._write(body)

    def leave_dead(self, queue: str, job_ids: Sequence[str]) -> int:
        def body(unit: Transaction) -> int:
            return sum(
                unit.db.count(_LEAVE_DEAD, (line.id, job_id))
                for line in unit.some([queue])
                for job_id in job_ids
            )

        return self._write(body)

"""Notes of running jobs, on SQLite."""

from __future__ import annotations

from taskqd.storage.features import LeaseKey, Noted
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.transaction import Transaction

_HELD = "SELECT n FROM job WHERE queue=? AND id=? AND state=4 AND rank=? AND pos=?"
_NOTE = "INSERT INTO note (job, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value=excluded.value"
_NOTE_ONCE = "INSERT INTO note (job, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_NOTES = """
SELECT key, value FROM note WHERE job IN
  (SELECT n FROM job JOIN queue ON queue.id = job.queue
   WHERE queue.space=? AND job.id=? AND (?3 IS NULL OR queue.name=?3))"""


class NoteCalls(Base):
    """The contract's calls for small values kept with a job."""

    def note(self, hold: LeaseKey, key: str, value: bytes, *, once: bool = False) -> Noted:
        def body(unit: Transaction) -> Noted:
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

"""Standing orders, and wishes to stop a running job, on SQLite."""

from __future__ import annotations

import msgspec

from taskqd.clock import now_ms
from taskqd.storage.features import Revocation
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.transaction import Transaction

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
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Revocation).decode


class RevocationCalls(Base):
    """The contract's calls that keep jobs from running."""

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        def body(unit: Transaction) -> bool:
            row = unit.db.row(_RUNNING, (unit.space, job_id, queue))
            if row is None:
                return False
            unit.db.rows(_STOP, (*row, answer, ttl_s))
            unit.db.rows("UPDATE job SET extras=extras|1 WHERE n=?", row)
            return True

        return self._write(body)

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        args = (subject, _encode(revocation), now_ms() + ttl_s * 1000)

        def body(unit: Transaction) -> None:
            unit.db.rows(_ORDER, (unit.space, *args))
            unit.db.rows(_CHANGE, (unit.space,))

        self._write(body)

    def restore(self, subject: str) -> bool:
        sql = "DELETE FROM standing WHERE space=? AND subject=? RETURNING until_ms"

        def body(unit: Transaction) -> list[tuple[int]]:
            unit.db.rows(_CHANGE, (unit.space,))
            return unit.db.rows(sql, (unit.space, subject))

        rows = self._write(body)
        return any(until > now_ms() for (until,) in rows)

    def revocations(self) -> dict[str, Revocation]:
        sql = "SELECT subject, data FROM standing WHERE space=? AND until_ms>?"
        rows = self._db.rows(sql, (self._space, now_ms()))
        return {subject: _decode(data) for subject, data in rows}

"""Notes of running jobs, in memory."""

from __future__ import annotations

from taskqd.storage.features import LeaseKey, Noted
from taskqd.storage.memory.state.base import Base


class NoteCalls(Base):
    """The contract's calls for small values kept with a job."""

    def note(self, hold: LeaseKey, key: str, value: bytes, *, once: bool = False) -> Noted:
        with self._space.lock:
            line = self._space.lines.get(hold.queue)
            job = line.held.get(hold.worker, {}).get(hold.job_id) if line else None
            if job is None or job.token != hold.token:
                return "fenced"
            if once and key in job.notes:
                return "present"
            job.notes[key] = value
            return "kept"

    def notes(self, job_id: str, queue: str | None = None) -> dict[str, bytes]:
        with self._space.lock:
            found = self._space.find(job_id, queue)
            return dict(found[1].notes) if found else {}

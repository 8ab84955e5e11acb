"""Notes of running jobs, on Redis."""

from __future__ import annotations

from typing import cast

from taskqd.storage.features import LeaseKey, Noted
from taskqd.storage.redis.keyspace.base import Base


class NoteCalls(Base):
    """The contract's calls for small values kept with a job."""

    def note(self, hold: LeaseKey, key: str, value: bytes, *, once: bool = False) -> Noted:
        args = [hold.worker, hold.job_id, hold.token, key, value, "1" if once else "0"]
        return cast("Noted", self.run("note", hold.queue, args).decode())

    def notes(self, job_id: str, queue: str | None = None) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in self.some_queues(queue):
            flat = self._link.call("HGETALL", self.at(name).notes(job_id), write=False)
            found |= {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}
        return found

"""Standing orders, and wishes to stop a running job, in memory."""

from __future__ import annotations

from taskqd.jobs.job import State
from taskqd.storage.features import Revocation
from taskqd.storage.memory.state.base import Base


class RevocationCalls(Base):
    """The contract's calls that keep jobs from running."""

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        with self._space.lock:
            found = self._space.find(job_id, queue)
            if found is None or found[1].state is not State.RUNNING:
                return False
            found[1].stop = (answer, ttl_s)
            return True

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        with self._space.lock:
            self._space.orders_change += 1
            self._space.orders[subject] = (revocation, self._space.wall_ms() + ttl_s * 1000)

    def restore(self, subject: str) -> bool:
        with self._space.lock:
            self._space.orders_change += 1
            _, until = self._space.orders.pop(subject, (None, 0))
            return until > self._space.wall_ms()

    def revocations(self) -> dict[str, Revocation]:
        with self._space.lock:
            now = self._space.wall_ms()
            orders = self._space.orders.items()
            return {subject: order for subject, (order, until) in orders if until > now}

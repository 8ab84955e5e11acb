"""Changes to waiting and dead jobs and to queues, on Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskqd.storage.redis.keyspace.durable import DurableBase

PAGE = 300
"""Letters in one call of a script: each takes some commands."""


class ControlCalls(DurableBase):
    """The contract's calls of operators, and of callers about one job."""

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        return self._in_any("cancel", queue, [job_id, answer, ttl_s])

    def reschedule(self, job_id: str, queue: str | None, run_at_ms: int) -> bool:
        return self._in_any("reschedule", queue, [job_id, run_at_ms])

    def _in_any(self, name: str, queue: str | None, args: Sequence[Any]) -> bool:
        """Run a script that acts only where the job waits."""
        return any(self.run_each_written(name, self.some_queues(queue), args))

    def revive(self, job_ids: Sequence[str]) -> int:
        return self._count("revive", job_ids)

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        if job_ids is None:
            return sum(self.run_each("purge_dead", self.known_queues()))
        return self._count("purge_dead", job_ids)

    def _count(self, name: str, job_ids: Sequence[str]) -> int:
        queues = self.known_queues()
        pages = (list(job_ids[at : at + PAGE]) for at in range(0, len(job_ids), PAGE))
        return sum(sum(self.run_each_written(name, queues, page)) for page in pages)

    def purge_queue(self, queue: str) -> int:
        total, more = 0, 1
        while more:
            dropped, more = self.run("purge_queue", queue)
            total += dropped
        return total

    def pause(self, queue: str) -> None:
        self.announce([queue])
        self._link.call("SET", self.at(queue)["paused"], 1)
        self._confirm(queue)

    def resume(self, queue: str) -> None:
        self.run_written([("resume", queue, ())])

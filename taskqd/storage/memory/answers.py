"""Answers of ended jobs, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.jobs.job import State
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Job


class AnswerCalls(Base):
    """The contract's calls of those who wait for a job."""

    def answer(self, job_id: str, queue: str | None = None) -> bytes | None:
        return self.answers([(job_id, queue)])[0]

    def answers(self, jobs: Sequence[tuple[str, str | None]]) -> list[bytes | None]:
        with self._space.lock:
            return [self._answer(job_id, queue) for job_id, queue in jobs]

    def _answer(self, job_id: str, queue: str | None) -> bytes | None:
        found = self._space.find(job_id, queue)
        if found is None or found[1].state not in (State.DONE, State.DEAD):
            return None
        job = found[1]
        return job.answer if job.answer and job.answer_until_ms > self._space.wall_ms() else None

    def wait(self, jobs: Sequence[tuple[str, str | None]], timeout_s: float) -> None:
        with self._space.answered:
            self._space.answered.wait_for(lambda: any(self.answers(jobs)), timeout_s)

    def conclude(self, job_id: str, queue: str, answer: bytes, ttl_s: int) -> bool:
        space = self._space
        with space.lock:
            line = space.line(queue)
            if job_id in line.jobs:
                return False
            job = Job(job_id, queue, b"", 0)
            job.answer, job.answer_until_ms = answer, space.wall_ms() + ttl_s * 1000
            line.to_ended(job, space.wall_ms())
            space.answered.notify_all()
            return True

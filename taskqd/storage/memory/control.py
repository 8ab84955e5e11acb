"""Changes to waiting and dead jobs and to queues, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskqd.jobs.job import State, strip_marks
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Job, Line

WAITING = (State.QUEUED, State.SCHEDULED)


class ControlCalls(Base):
    """The contract's calls of operators, and of callers about one job."""

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        space = self._space
        with space.lock:
            found = space.find(job_id, queue)
            if found is None or found[1].state not in WAITING:
                return False
            line, job = found
            now = space.wall_ms()
            job.answer, job.answer_until_ms = answer, now + ttl_s * 1000
            line.to_ended(job, now)
            space.answered.notify_all()
            return True

    def reschedule(self, job_id: str, queue: str | None, run_at_ms: int) -> bool:
        space = self._space
        with space.lock:
            found = space.find(job_id, queue)
            if found is None or found[1].state not in WAITING:
                return False
            line, job = found
            space.put(line, job, run_at_ms)
            if job.state is State.QUEUED:
                space.ring(line.name, 1)
            return True

    def revive(self, job_ids: Sequence[str]) -> int:
        space = self._space
        with space.lock:
            found = list(self._dead(job_ids))
            for line, job in found:
                job.record, job.answer, job.reason = strip_marks(job.record), b"", ""
                line.to_tail(job)
                space.ring(line.name, 1)
            return len(found)

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        with self._space.lock:
            found = list(self._dead(job_ids))
            for line, job in found:
                line.to_ended(job, self._space.wall_ms())
            return len(found)

    def _dead(self, job_ids: Sequence[str] | None) -> Iterator[tuple[Line, Job]]:
        for line in self._space.lines.values():
            for job_id in list(line.dead) if job_ids is None else dict.fromkeys(job_ids):
                if job_id in line.dead:
                    yield line, line.dead[job_id]

    def purge_queue(self, queue: str) -> int:
        with self._space.lock:
            gone = [
                (line, job)
                for line in self._space.some([queue])
                for job in line.jobs.values()
                if job.state in WAITING
            ]
            for line, job in gone:
                line.to_nowhere(job)
            return len(gone)

    def pause(self, queue: str) -> None:
        with self._space.lock:
            self._space.line(queue).paused = True

    def resume(self, queue: str) -> None:
        with self._space.lock:
            line = self._space.line(queue)
            line.paused = False
            self._space.ring(queue, line.ready() + len(line.suspects))

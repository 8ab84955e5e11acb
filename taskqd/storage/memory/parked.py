"""Parked dead letters, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.storage.features import Letter, Parked
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Job, Line


class ParkedCalls(Base):
    """The contract's calls for letters that wait under a label."""

    def parked(self, queues: Sequence[str]) -> list[Parked]:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            return [
                Parked(line.name, label, len(jobs), (now - jobs[0].at_ms) / 1000)
                for line in space.some(queues)
                for label, jobs in _by_label(line).items()
            ]

    def parked_letters(self, queue: str, label: str, limit: int) -> list[Letter]:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            return [
                Letter(job.id, job.record, (now - job.at_ms) / 1000)
                for line in space.some([queue])
                for job in _by_label(line).get(label, [])[:limit]
            ]

    def unpark(self, queue: str, label: str, limit: int) -> list[str]:
        space = self._space
        with space.lock:
            for line in space.some([queue]):
                jobs = _by_label(line).get(label, [])[:limit]
                for job in reversed(jobs):
                    job.answer, job.reason = b"", ""
                    line.to_head(job)
                if jobs:
                    # Everybody: the latest idle may be the one that has just parked it.
                    space.ring(queue, len(space.idle.get(queue, ())))
                return [job.id for job in jobs]
            return []

    def leave_dead(self, queue: str, job_ids: Sequence[str]) -> int:
        with self._space.lock:
            found = [
                line.dead[job_id]
                for line in self._space.some([queue])
                for job_id in dict.fromkeys(job_ids)
                if job_id in line.dead and line.dead[job_id].parked
            ]
            for job in found:
                job.parked = ""
            return len(found)


def _by_label(line: Line) -> dict[str, list[Job]]:
    """Return the parked jobs by their label, longest parked first."""
    found: dict[str, list[Job]] = {}
    for job in line.dead.values():
        if job.parked:
            found.setdefault(job.parked, []).append(job)
    return found

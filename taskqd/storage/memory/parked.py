"""Parked dead letters, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.storage.features import Letter, Parked
from taskqd.storage.memory.state.base import Base


class ParkedCalls(Base):
    """The contract's calls for letters that wait under a label."""

    def parked(self, queues: Sequence[str]) -> list[Parked]:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            return [
                Parked(line.name, label, len(jobs), (now - jobs[0].at_ms) / 1000)
                for line in space.some(queues)
                for label in line.parked
                if (jobs := line.letters(label))
            ]

    def parked_letters(self, queue: str, label: str, limit: int) -> list[Letter]:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            return [
                Letter(job.id, job.record, (now - job.at_ms) / 1000)
                for line in space.some([queue])
                for job in line.letters(label)[:limit]
            ]

    def know(self, node: str, queue: str, label: str) -> bool:
        space = self._space
        with space.lock:
            state = space.nodes.get(node)
            if state is None or queue not in state.queues:
                return False
            known = space.line(queue).knowers.setdefault(label, set())
            is_new = node not in known
            known.add(node)
            space.ring_ready([queue])
            return is_new

    def relabel(self, queue: str, job_ids: Sequence[str], label: str) -> list[str]:
        with self._space.lock:
            moved = []
            for line in self._space.some([queue]):
                for job_id in dict.fromkeys(job_ids):
                    job = line.dead.get(job_id)
                    if job is not None and job.parked and job.parked != label:
                        line.park(job, label)
                        moved.append(job_id)
            return moved

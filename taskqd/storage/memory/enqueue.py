"""Writing jobs in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.errors import QueueFull
from taskqd.jobs.job import Entry
from taskqd.storage.memory.state.base import Base


class EnqueueCalls(Base):
    """The contract's calls of producers."""

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        space = self._space
        with space.lock:
            self._check_room(len(jobs))
            added = [space.add(entry) for entry in jobs]
            self._space.ring_ready({entry.queue for entry in jobs})
            return added

    def _check_room(self, more: int) -> None:
        if self._max_jobs is None:
            return
        known = sum(len(line.jobs) - len(line.ended) for line in self._space.lines.values())
        if known + more > self._max_jobs:
            raise QueueFull(
                f"memory storage holds {known} jobs and may hold {self._max_jobs} (max_jobs); "
                f"{more} more were refused: let workers drain it or raise the bound"
            )

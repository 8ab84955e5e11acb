"""The process kind: the main thread is the only slot."""

from __future__ import annotations

from collections.abc import Collection

from taskqd.board import Row
from taskqd.job import Lease

from .slots import Handover, JobRunner, SlotPlace, Usage
from .stopping import Stopping


class ProcessSlot(Handover):
    """One job at a time, in the process's main thread, where signals and C libraries expect it."""

    capacity = 1

    def __init__(self, row: Row, capacity: int, stopping: Stopping, runner: JobRunner) -> None:
        super().__init__()
        self._place = SlotPlace(row, 0, stopping)
        self._runner = runner

    def run(self) -> None:
        self.serve(self._place, self._runner)

    def running(self) -> list[Lease]:
        lease = self._place.lease
        return [] if lease is None else [lease]

    def task(self) -> str:
        return self._place.task

    def usage(self) -> Usage:
        return Usage(self._place.jobs, self._place.ran_ns)

    def stop(self, job_ids: Collection[str]) -> None:
        self._place.stop(job_ids)

    def interrupt(self) -> None:
        """Nothing can safely stop a thread in a user's code: jobs look at `stopping` themselves."""

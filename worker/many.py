"""What the kinds with several slots in one process share."""

from __future__ import annotations

from collections.abc import Collection

from taskqd.board import Row
from taskqd.job import Lease

from .slots import Handover, JobRunner, SlotPlace, Usage
from .stopping import Stopping


class ManySlots(Handover):
    """`capacity` places, and what others see of them."""

    make_place: type[SlotPlace] = SlotPlace

    def __init__(self, row: Row, capacity: int, stopping: Stopping, runner: JobRunner) -> None:
        super().__init__()
        self.capacity = capacity
        self._row = row
        self._runner = runner
        self._places = [self.make_place(row, number, stopping) for number in range(capacity)]

    def close(self, slots: int = 0) -> None:
        super().close(slots or self.capacity)

    def running(self) -> list[Lease]:
        leases = [place.lease for place in self._places]
        return [lease for lease in leases if lease is not None]

    def task(self) -> str:
        tasks = [place.task for place in self._places if place.task]
        if len(tasks) < 2:
            return "".join(tasks)
        return f"{tasks[0]} and {len(tasks) - 1} more"

    def usage(self) -> Usage:
        jobs = sum(place.jobs for place in self._places)
        return Usage(jobs, sum(place.ran_ns for place in self._places))

    def interrupt(self) -> bool:
        """Have JobInterrupted raised in all jobs where it can be; True: it can be in some."""
        return sum(place.interrupt() for place in self._places) > 0

    def stop(self, job_ids: Collection[str]) -> None:
        for place in self._places:
            place.stop(job_ids)

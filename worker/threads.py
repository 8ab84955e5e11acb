"""The thread kind: each slot is a thread."""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import partial

from taskqd.board import Row
from taskqd.job import Lease

from . import process
from .slots import Handover, JobRunner, SlotPlace, Usage, interrupt_all, total
from .stopping import Stopping


class ThreadSlots(Handover):
    """`capacity` jobs at once, each in a thread of its own; the main thread waits for them."""

    def __init__(self, row: Row, capacity: int, stopping: Stopping, runner: JobRunner) -> None:
        super().__init__()
        self.capacity = capacity
        self._places = [SlotPlace(row, number, stopping) for number in range(capacity)]
        self._runner = runner

    def run(self) -> None:
        threads = [
            threading.Thread(
                target=process.vital,
                args=(partial(self.serve, place, self._runner),),
                name=f"slot-{number}",
                # A job that does not end must not keep the process from ending.
                daemon=True,
            )
            for number, place in enumerate(self._places)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

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
        return total(self._places)

    def stop(self, job_ids: Collection[str]) -> None:
        for place in self._places:
            place.stop(job_ids)

    def interrupt(self) -> bool:
        """Cancel coroutines; plain code in a thread looks at `stopping` itself."""
        return interrupt_all(self._places)

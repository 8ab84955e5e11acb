"""What the kinds with several slots in one process share."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Sequence

from taskqd.clock import monotonic_ns
from taskqd.ipc import board
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease

from .base import Handover, JobRunner, Slot, Usage
from .stop_state import StopState


class MultiSlots(Handover):
    """`capacity` places, and what others see of them."""

    make_slot: type[Slot] = Slot

    def __init__(self, row: Row, capacity: int, stop_state: StopState, runner: JobRunner) -> None:
        super().__init__()
        self.capacity = capacity
        self._row = row
        self._runner = runner
        self._slots = [self.make_slot(row, number, stop_state) for number in range(capacity)]

    def running(self) -> list[Lease]:
        leases = [slot.lease for slot in self._slots]
        return [lease for lease in leases if lease is not None]

    def task(self) -> str:
        tasks = [slot.task for slot in self._slots if slot.task]
        if len(tasks) < 2:
            return "".join(tasks)
        return f"{tasks[0]} and {len(tasks) - 1} more"

    def usage(self) -> Usage:
        jobs = sum(slot.jobs for slot in self._slots)
        return Usage(jobs, sum(slot.ran_ns for slot in self._slots))

    def interrupt(self) -> bool:
        """Have JobInterrupted raised in all jobs where it can be; True: it can be in some."""
        return sum(slot.interrupt() for slot in self._slots) > 0

    def stop(self, job_ids: Collection[str]) -> None:
        for slot in self._slots:
            slot.stop(job_ids)


class LoopSlots(MultiSlots):
    """Slots that share the event loop of the main thread, to which the worker's loop hands its calls."""

    def __init__(self, row: Row, capacity: int, stop_state: StopState, runner: JobRunner) -> None:
        super().__init__(row, capacity, stop_state, runner)
        self._idle: deque[Callable[[], object]] = deque()
        """Each wakes a slot that waits for a job; of the loop's thread only."""

    def offer(self, leases: Sequence[Lease]) -> None:
        super().offer(leases)
        self._on_loop(self._wake)

    def close(self) -> None:
        super().close()
        self._on_loop(self._wake)

    def turn(self) -> None:
        self._on_loop(lambda: self._row.set(board.TURNED, monotonic_ns()))

    @abstractmethod
    def _on_loop(self, call: Callable[[], object]) -> None:
        """Have the loop's thread make this call."""

    def _wake(self) -> None:
        for _ in range(min(self._jobs.qsize(), len(self._idle))):
            self._idle.popleft()()

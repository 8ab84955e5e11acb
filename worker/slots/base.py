"""What a worker's loop needs of the slots, and what all kinds of slots share.

The main thread of a worker belongs to the slots (`Slots.run`); the worker's loop is a thread beside it.
The worker's loop hands leases over and collects outcomes; it never runs a user's code, and the slots never
talk to the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

from taskqd.clock import monotonic_ns
from taskqd.execution.current_job import SlotLike
from taskqd.ipc.board import Row
from taskqd.jobs.end import follow_ups_of
from taskqd.jobs.job import Lease, Outcome
from taskqd.worker.host.event_queue import EventQueue
from taskqd.worker.host.native_threads import NativeEvent

from .slot import Slot
from .stop_state import StopState


class JobRunner(Protocol):
    """What slots and loop need of `taskqd.execution.runner.Runner`."""

    def run(self, lease: Lease, slot: SlotLike) -> Outcome: ...

    async def arun(self, lease: Lease, slot: SlotLike) -> Outcome: ...

    def interrupted(self, lease: Lease, late: str = "") -> Outcome: ...

    def acks_each(self, lease: Lease) -> bool: ...

    def heed(self, orders: int) -> None: ...

    def keep_time(self, read: Callable[[], int]) -> None: ...


class Usage(NamedTuple):
    """What the slots have done since they started."""

    jobs: int
    ran_ns: int


class Slots(Protocol):
    """The places of one worker in which jobs run.  All methods but `run` are the worker's loop's."""

    capacity: int
    """How many jobs run at once."""
    loop: str
    """Name of the event loop that the jobs share, "" for none."""
    low: int
    """A slot that leaves no more than so many jobs unstarted rings; the worker's loop sets it."""

    def fileno(self) -> int:
        """Return an eventfd that the slots write to when the worker's loop has something to do.

        It is never read: watch it edge-triggered.
        """
        ...

    def run(self) -> None:
        """Serve until `close`.  Called once, by the main thread."""
        ...

    def offer(self, leases: Sequence[Lease]) -> None:
        """Hand jobs over, to be started in this order."""
        ...

    def withdraw(self) -> list[Lease]:
        """Return all jobs that have not started, in their order; they are the worker's loop's again."""
        ...

    def waiting(self) -> int:
        """Return how many jobs have not started."""
        ...

    def collect(self) -> list[Outcome]:
        """Return what has finished since the last call, and be ready to ring again."""
        ...

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """Learn that the storage has taken or refused these outcomes (`ack="each"` waits for it)."""
        ...

    def urgent(self) -> bool:
        """Return whether a slot waits for `settled`."""
        ...

    def running(self) -> list[Lease]:
        """Return the jobs in the slots, some of which may have finished since `collect`."""
        ...

    def task(self) -> str:
        """Name a task that runs here, "" if none does: for the process's title."""
        ...

    def usage(self) -> Usage: ...

    def stop(self, job_ids: Collection[str]) -> None:
        """Ask those of these jobs that run to stop."""
        ...

    def interrupt(self) -> bool | None:
        """Have JobInterrupted raised in the running jobs where this kind can do so safely.

        Returns at once, True if any of them may now end by itself.
        """
        ...

    def turn(self) -> None:
        """Show on the board, soon, that no job keeps all others from running."""
        ...

    def close(self) -> None:
        """Make `run` return once the running jobs have ended."""
        ...


class Handover:
    """The two queues between the worker's loop and the threads that run jobs.

    A slot rings only when it helps: few jobs are left unstarted, or someone waits for a settlement.
    """

    capacity = 1
    loop = ""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Lease | None] = SimpleQueue()
        self._finished: EventQueue[Outcome] = EventQueue()
        self._waiters: dict[str, NativeEvent] = {}
        self.low = 0

    # -- the side of the worker's loop -------------------------------------------------------

    def fileno(self) -> int:
        return self._finished.fileno()

    def offer(self, leases: Sequence[Lease]) -> None:
        put = self._jobs.put
        for lease in leases:
            put(lease)

    def withdraw(self) -> list[Lease]:
        leases: list[Lease] = []
        try:
            while True:
                lease = self._jobs.get_nowait()
                if lease is not None:
                    leases.append(lease)
        except Empty:
            return leases

    def waiting(self) -> int:
        return self._jobs.qsize()

    def collect(self) -> list[Outcome]:
        return self._finished.take()

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        if self._waiters:
            for outcome in outcomes:
                waiter = self._waiters.pop(outcome.id, None)
                if waiter is not None:
                    waiter.set()

    def urgent(self) -> bool:
        return bool(self._waiters)

    def turn(self) -> None:
        """Threads do not hold each other back."""

    def close(self) -> None:
        for _ in range(self.capacity):
            self._jobs.put(None)

    # -- a slot's side -----------------------------------------------------------------------

    def serve(self, slot: Slot, runner: JobRunner) -> None:
        """Run jobs in this thread until the handover is closed."""
        take, left = self._jobs.get, self._jobs.qsize
        run, finished = runner.run, self._finished
        finish = finished.append
        try:
            while (lease := take()) is not None:
                slot.take(lease)
                started_ns = monotonic_ns()
                outcome = run(lease, slot)
                slot.ran_ns += monotonic_ns() - started_ns
                slot.jobs += 1
                if runner.acks_each(lease):
                    self._finish_and_wait(outcome, slot)
                    continue
                # law: the outcome first, so that the worker's loop finds each job in one of both
                # (test_an_outcome_can_be_collected_before_its_slot_is_free).
                finish(outcome)
                slot.lease = None
                slot.leave()
                if not finished.rung and (left() <= self.low or follow_ups_of(outcome)):
                    finished.ring()
        finally:
            slot.close()

    def _new_event(self) -> NativeEvent:
        return NativeEvent()

    def _finish(self, outcome: Outcome, slot: Slot) -> None:
        # law: the outcome first, so that the worker's loop finds each job in one of both
        # (test_an_outcome_can_be_collected_before_its_slot_is_free).
        self._finished.append(outcome)
        slot.lease = None
        slot.leave()
        # What follows a job is waited for by somebody else.
        if not self._finished.rung and (self._jobs.qsize() <= self.low or follow_ups_of(outcome)):
            self._finished.ring()

    def _finish_and_wait(self, outcome: Outcome, slot: Slot) -> None:
        """Start no other job before the storage knows of this one, which counts as running."""
        acked = slot.acked = slot.acked or self._new_event()
        acked.clear()
        slot.outlive(outcome)
        self._waiters[outcome.id] = acked
        self._finished.append(outcome)
        slot.lease = None
        self._finished.ring()
        acked.wait()
        slot.leave()


MakeSlots = Callable[[Row, int, StopState, JobRunner], Slots]

__all__ = [
    "Handover",
    "JobRunner",
    "MakeSlots",
    "Slot",
    "Slots",
    "Usage",
]

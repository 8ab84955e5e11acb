"""The process kind: the main thread is the only slot."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection
from types import FrameType

from taskqd.ipc import board
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease

from .base import Handover, JobRunner, Slot, Usage
from .stop_state import StopState

SIGNAL = signal.SIGRTMIN + 6
"""From this process to its own main thread.  Tasks may have SIGALRM to themselves."""


class ProcessSlots(Handover):
    """One job at a time, in the process's main thread, where signals and C libraries expect it."""

    capacity = 1

    def __init__(self, row: Row, capacity: int, stop_state: StopState, runner: JobRunner) -> None:
        super().__init__()
        self._row = row
        self._slot = Slot(row, 0, stop_state)
        self._runner = runner

    def run(self) -> None:
        interrupts = self._slot.interrupts
        if on_signal_to_main(lambda _number, frame: interrupts.deliver(frame)):
            interrupts.wake = signal_main_thread
        self.serve(self._slot, self._runner)

    def running(self) -> list[Lease]:
        lease = self._slot.lease
        return [] if lease is None else [lease]

    def task(self) -> str:
        return self._slot.task

    def usage(self) -> Usage:
        return Usage(self._slot.jobs, self._slot.ran_ns)

    def stop(self, job_ids: Collection[str]) -> None:
        self._slot.stop(job_ids)
        lease = self._slot.lease
        if lease is not None and lease.id in job_ids:
            # The master waits a while for it to end, and then ends it with its process.
            self._row.set(board.REVOKED, lease.token)

    def interrupt(self) -> bool:
        return self._slot.interrupt()


def on_signal_to_main(deliver: Callable[[int, FrameType | None], None]) -> bool:
    """Have `signal_main_thread` call `deliver`, which may raise; False: this is not the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(SIGNAL, deliver)
    return True


def signal_main_thread() -> None:
    """Have the main thread call its handler between two bytecodes, out of a system call too."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, SIGNAL)

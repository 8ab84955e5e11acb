"""The process kind: the main thread is the only slot."""

from __future__ import annotations

from collections.abc import Collection

from taskqd.ipc import board
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease

from . import pokes
from .base import Handover, JobRunner, SlotPlace, Usage
from .stop_state import Stopping


class ProcessSlot(Handover):
    """One job at a time, in the process's main thread, where signals and C libraries expect it."""

    capacity = 1

    def __init__(self, row: Row, capacity: int, stopping: Stopping, runner: JobRunner) -> None:
        super().__init__()
        self._row = row
        self._place = SlotPlace(row, 0, stopping)
        self._runner = runner

    def run(self) -> None:
        halts = self._place.halts
        if pokes.on_poke(lambda _number, frame: halts.deliver(frame)):
            halts.poke = pokes.poke_main_thread
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
        lease = self._place.lease
        if lease is not None and lease.id in job_ids:
            # The master waits a while for it to end, and then ends it with its process.
            self._row.set(board.REVOKED, lease.token)

    def interrupt(self) -> bool:
        return self._place.interrupt()

"""One slot, as the job that runs in it sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, ClassVar

from taskqd.clock import monotonic_ns
from taskqd.errors import JobInterrupted
from taskqd.ipc.board import Row
from taskqd.jobs.job import Lease, Outcome
from taskqd.worker.host.native_threads import NativeEvent

from .interrupts import Interrupts
from .stop_state import StopState


class Slot:
    """One slot as the job that it runs sees it (`taskqd.execution.current_job.SlotLike`), and its running tally."""

    stops_plain_code = False
    """A plain function can be stopped at its `timeout` without its worker."""
    end_fork: ClassVar[Callable[[], object] | None] = None

    def __init__(self, row: Row, number: int, stop_state: StopState) -> None:
        self._row = row
        self._number = number
        self._stop_state = stop_state
        self._started_ns = 0
        self._asked = ""
        """Id of the job that was asked to stop."""
        self._async_runner: asyncio.Runner | None = None
        self.interrupts = Interrupts(stop_state.timer, self._token)
        self.watched: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]] = (
            self.interrupts.watched
        )
        self.limit = self.interrupts.limit
        self.lease: Lease | None = None
        """What runs here."""
        self.task = ""
        self.jobs = 0
        self.ran_ns = 0
        self.acked: NativeEvent | None = None
        """Made for the first job with `ack="each"`: set once its outcome is settled."""

    @property
    def worker(self) -> str:
        return self._stop_state.worker

    @property
    def stopping(self) -> bool:
        return self._stop_state.stopping or self.revoked

    @property
    def revoked(self) -> bool:
        lease = self.lease
        return lease is not None and lease.id == self._asked

    def stop(self, job_ids: Collection[str]) -> None:
        lease = self.lease
        if lease is not None and lease.id in job_ids and lease.id != self._asked:
            self._asked = lease.id
            self.interrupts.request(lease.token, JobInterrupted("the job was revoked"))

    def interrupt(self) -> bool:
        """Have JobInterrupted raised in what runs here; False: it cannot be, or nothing runs."""
        lease = self.lease
        return lease is not None and self.interrupts.request(
            lease.token, JobInterrupted("the worker stops")
        )

    def _token(self) -> int:
        lease = self.lease
        return 0 if lease is None else lease.token

    def seconds_left(self) -> float:
        return self._stop_state.seconds_left()

    def take(self, lease: Lease) -> None:
        """Post the job before its record is looked at: decoding may run a user's code."""
        if self.interrupts.marked:
            self.interrupts.forget()
        self.lease = lease
        self._row.begin(self._number, lease.token, monotonic_ns(), 0, lease.id, "")

    def leave(self) -> None:
        """Post that nothing runs here."""
        self._row.end(self._number)

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None:
        started_ns = self._started_ns = monotonic_ns()
        deadline_ns = 0 if timeout_s is None else started_ns + int(timeout_s * 1e9)
        self.task = task
        self._row.begin(self._number, token, started_ns, deadline_ns, job_id, task)

    def outlive(self, outcome: Outcome) -> None:
        """Post that the job has come to its end in time, and counts as running all the same.

        It was killed at its timeout while its end waited for a storage that was away.
        """
        self._row.begin(
            self._number, outcome.token, self._started_ns or monotonic_ns(), 0, outcome.id, ""
        )

    def end(self) -> None:
        """Its outcome is not handed over yet, so the board goes on to show the job."""
        self.task = ""

    @property
    def async_runner(self) -> asyncio.Runner:
        """An event loop for `async def` tasks; made when first asked for, closed with the slot."""
        if self._async_runner is None:
            self._async_runner = asyncio.Runner()
        return self._async_runner

    def close(self) -> None:
        if self._async_runner is not None:
            self._async_runner.close()
            self._async_runner = None

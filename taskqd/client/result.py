"""A handle on a job's answer.  Reading does not destroy; waiting always ends with something definite."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from taskqd.client.async_wait import Waiters
from taskqd.client.rows import open_record
from taskqd.clock import StorageClock, monotonic_s
from taskqd.crypto.sealing import Sealer, result_of
from taskqd.errors import (
    DecodeError,
    JobCancelled,
    JobDead,
    ResultMissing,
    ResultTimeout,
    StorageUnavailable,
    TaskFailed,
)
from taskqd.jobs import parked as parking
from taskqd.jobs.job import Answer, Failure, Reason, State, decode_answer
from taskqd.storage.base import JobRow, Storage

R = TypeVar("R", covariant=True)
_DAMAGE = (msgspec.MsgspecError, ValueError, RecursionError)
AWAY_S = 0.25
_LOOK_S_MAX = 5.0
"""How long a waiter sleeps at most before it checks that the job still exists."""


class ResultApp(Protocol):
    """What results need of the app that made them."""

    @property
    def storage(self) -> Storage: ...

    @property
    def sealer(self) -> Sealer | None: ...

    @property
    def waiters(self) -> Waiters: ...

    @property
    def clock(self) -> StorageClock: ...

    def revoke_by_id(
        self, job_id: str, *, queue: str | None = None, revoke_once: bool = True
    ) -> bool: ...

    def reschedule_by_id(
        self, job_id: str, *, queue: str | None, delay: float | None, eta: object | None
    ) -> bool: ...


class Result(Generic[R]):
    """One job's result, by its id."""

    __slots__ = ("_answer", "_app", "_decode", "_parked", "_pending", "id", "queue")

    def __init__(
        self,
        app: ResultApp,
        job_id: str,
        queue: str | None,
        decode: Callable[[bytes], Any],
        pending: Callable[[], bool] | None = None,
    ) -> None:
        """`pending`: whether something that will enqueue this job is still on its way."""
        self._pending = pending
        self._app = app
        self._decode = decode
        self._answer: Answer | None = None
        self._parked = False
        """It has an answer that need not be the last: its task is not known to the workers."""
        self.id = job_id
        self.queue = queue

    def __repr__(self) -> str:
        return f"<Result {self.id}>"

    # -- looking -----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The job's state now.  Raises ResultMissing for a job that is not known (any more)."""
        if self._peek() is not None:
            assert self._answer is not None
            return State(self._answer.state)
        if self._known():
            return self._row().state
        return State.SCHEDULED

    def goes_on(self) -> bool:
        """Return whether the job has not ended yet, enqueued or not."""
        answer = self._peek()
        if answer is None:
            self._known()
            answer = self._peek()
        return answer is None or parking.holds(answer)

    def _known(self) -> bool:
        """Return whether the job is in the storage.  Raises ResultMissing where it never will be."""
        row = self._app.storage.job(self.id, self.queue)
        if row is not None:
            self._read_letter(row)
            return True
        if self._pending is not None and self._pending():
            return False
        # What was on its way may have arrived between the two looks.
        self._row()
        return True

    def _read_letter(self, row: JobRow) -> None:
        """A dead letter outlives its answer, and tells why it is dead."""
        if row.state is State.DEAD and not (self._keep(row.answer or None) or self._parked):
            error, _, stack = open_record(row.record).marks.error.partition("\n")
            kind, _, message = error.partition(": ")
            raised = row.reason in (Reason.FAILED, Reason.TIMEOUT)
            failure = Failure(kind, message, stack) if raised else Failure("", error, stack)
            self._answer = Answer("dead", 0, row.run_at_ms, 0, reason=row.reason, failure=failure)

    def is_ready(self) -> bool:
        """Return whether the job has ended."""
        return self._peek() is not None

    def info(self) -> dict[str, Any]:
        """Return all that is known of the job: state, attempts, counters, times, reason, error."""
        from taskqd.client.rows import describe

        return describe(self._row())

    def _row(self) -> JobRow:
        row = self._app.storage.job(self.id, self.queue)
        if row is None:
            raise ResultMissing(
                f"job {self.id!r}: not known; it never was, or its result's lifetime is over"
            )
        return row

    def _peek(self) -> Answer | None:
        self._forget_parked()
        if self._answer is None:
            self._keep(self._app.storage.answer(self.id, self.queue))
        return self._answer

    def _forget_parked(self) -> None:
        """A job of an unknown task may have come back since it was looked at."""
        if self._answer is not None and parking.may_change(self._answer):
            self._answer = None

    def _keep(self, data: bytes | None) -> bool:
        self._parked = False
        if data is None:
            return False
        try:
            answer = decode_answer(data)
        except _DAMAGE as error:
            raise DecodeError(f"job {self.id!r}: its answer is damaged: {error}") from None
        now = self._app.clock.now_ms()
        if answer.finished_ms + answer.ttl_s * 1000 < now:
            return False
        if parking.waits_s(answer, now):
            self._parked = True
            return False
        self._answer = answer
        return True

    # -- waiting -----------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended.  False: `timeout` seconds are over and it has not.

        Raises ResultMissing as soon as the job is known to exist no more, and StorageUnavailable
        where the storage is still away when the time is over.
        """
        deadline = None if timeout is None else monotonic_s() + timeout
        while True:
            try:
                return self._wait(deadline)
            except StorageUnavailable:
                if deadline is not None and monotonic_s() + AWAY_S > deadline:
                    raise
                time.sleep(AWAY_S)

    def _wait(self, deadline: float | None) -> bool:
        while self._peek() is None:
            left = _LOOK_S_MAX if deadline is None else deadline - monotonic_s()
            if left <= 0:
                return False
            self._known()
            if self._parked:
                time.sleep(min(left, AWAY_S))
            else:
                self._app.storage.wait([(self.id, self.queue)], min(left, _LOOK_S_MAX))
        return True

    def get(self, timeout: float | None = None) -> R:
        """Return what the task returned, waiting up to `timeout` seconds (None: as long as it takes).

        Raises ResultTimeout, TaskFailed, JobDead, JobCancelled or ResultMissing.
        """
        if not self.wait(timeout):
            raise ResultTimeout(f"job {self.id!r}: not ended within {timeout:g} s; it goes on")
        assert self._answer is not None
        return self._value(self._answer)

    async def aget(self, timeout: float | None = None) -> R:
        """`get` without blocking the event loop."""
        self._forget_parked()
        if self._answer is None and not await self._app.waiters.wait(self, timeout):
            raise ResultTimeout(f"job {self.id!r}: not ended within {timeout:g} s; it goes on")
        assert self._answer is not None
        return self._value(self._answer)

    @property
    def parked(self) -> bool:
        return self._parked

    def take(self, data: bytes | None) -> bool:
        """Take the encoded answer, which somebody has read; returns whether the job has ended."""
        return self._keep(data)

    def look(self) -> bool:
        """Return whether the job has ended.  Raises ResultMissing."""
        self._known()
        return self._peek() is not None

    def _value(self, answer: Answer) -> R:
        if answer.state == State.DONE:
            return self._decoded(bytes(answer.value))
        if answer.state == State.CANCELLED:
            raise JobCancelled(answer.reason)
        failure = answer.failure
        if failure is not None and answer.reason in (Reason.FAILED, Reason.TIMEOUT):
            raise TaskFailed(
                f"{failure.type_name}: {failure.message}",
                type_name=failure.type_name,
                traceback=failure.traceback,
            )
        raise JobDead(answer.reason, failure.message if failure else "")

    def _decoded(self, data: bytes) -> R:
        try:
            sealer = self._app.sealer
            if sealer is None:
                value: R = self._decode(data)
            else:
                value = sealer.unseal_value(result_of(self.id), data, self._decode)
        except _DAMAGE as error:
            raise DecodeError(f"job {self.id!r}: its value is damaged: {error}") from None
        return value

    # -- acting ------------------------------------------------------------------------------

    def revoke(self, revoke_once: bool = True) -> bool:
        """Keep the job from running; see `App.revoke_by_id`."""
        return self._app.revoke_by_id(self.id, queue=self.queue, revoke_once=revoke_once)

    cancel = revoke

    def reschedule(self, *, delay: float | None = None, eta: object | None = None) -> bool:
        """Give the waiting job a new time; neither: now.  False: it is not waiting any more."""
        return self._app.reschedule_by_id(self.id, queue=self.queue, delay=delay, eta=eta)

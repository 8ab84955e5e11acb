"""The job that is running here: what `current_job()` returns.

Kept in a context variable, so each thread, greenlet and coroutine sees its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from taskqd.errors import JobInterrupted, TaskTimeout
from taskqd.job import Envelope, Lease, Marks

if TYPE_CHECKING:
    import asyncio


class Place(Protocol):
    """What a slot offers to the job that it runs."""

    @property
    def stopping(self) -> bool:
        """The worker drains: the job should come to an end."""
        ...

    def seconds_left(self) -> float:
        """Seconds until the job is interrupted (inf while the worker is not stopping)."""
        ...

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None: ...

    def end(self) -> None: ...

    @property
    def async_runner(self) -> asyncio.Runner:
        """The event loop of this slot, for `async def` tasks in kinds without a loop."""
        ...


class CurrentJob:
    """One attempt of one job, seen from inside its task."""

    __slots__ = ("_envelope", "_lease", "_marks", "_place", "_soft_deadline", "_started")

    def __init__(
        self, lease: Lease, envelope: Envelope, marks: Marks, place: Place, started: float
    ) -> None:
        self._lease = lease
        self._envelope = envelope
        self._marks = marks
        self._place = place
        self._started = started
        self._soft_deadline: float | None = None

    def __repr__(self) -> str:
        return f"<job {self.id} {self.task} attempt {self.attempt}>"

    @property
    def id(self) -> str:
        return self._lease.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self._envelope.t

    @property
    def queue(self) -> str:
        return self._lease.queue

    @property
    def token(self) -> int:
        """Fencing token: greater than that of every earlier attempt of this job."""
        return self._lease.token

    @property
    def attempt(self) -> int:
        """1 for the first start."""
        return self._marks.attempts + 1

    @property
    def failures(self) -> int:
        return self._marks.failures

    @property
    def interruptions(self) -> int:
        """How often earlier attempts were stopped with their worker."""
        return self._marks.interruptions

    @property
    def crashes(self) -> int:
        """How often its worker died while running it."""
        return self._marks.crashes

    @property
    def enqueued_ms(self) -> int:
        """Unix milliseconds at which the caller enqueued the job."""
        return self._envelope.e

    @property
    def scheduled_at(self) -> Any:
        """The tick of a periodic task as an aware datetime in UTC, None for other jobs."""
        from datetime import UTC, datetime

        tick_ms = self._envelope.s
        return None if tick_ms is None else datetime.fromtimestamp(tick_ms / 1000, UTC)

    @property
    def headers(self) -> dict[str, str]:
        """What travels with the job (trace context)."""
        return self._envelope.h or {}

    @property
    def stopping(self) -> bool:
        """The worker is draining: save what is worth saving and return."""
        return self._place.stopping

    @property
    def seconds_left(self) -> float:
        """Seconds until the job is interrupted; inf while the worker is not stopping."""
        return self._place.seconds_left()

    def check(self) -> None:
        """Raise JobInterrupted if the worker is stopping: call it where stopping is safe.

        Raises TaskTimeout once the job's `soft_timeout` is over.
        """
        if self._place.stopping:
            raise JobInterrupted
        if self._soft_deadline is not None:
            from taskqd.clock import monotonic_s

            if monotonic_s() > self._soft_deadline:
                raise TaskTimeout(f"{self.task}: soft_timeout is over")


_current: ContextVar[CurrentJob | None] = ContextVar("taskqd_current_job", default=None)


def current_job() -> CurrentJob:
    """Return the job that runs here.  Raises LookupError outside a task."""
    job = _current.get()
    if job is None:
        raise LookupError("current_job(): no job is running here; call it inside a task")
    return job


__all__ = ["CurrentJob", "Place", "current_job"]

"""The job that is running here: what `current_job()` returns.

Kept in a context variable, so each thread, greenlet and coroutine sees its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

from taskqd.clock import monotonic_s
from taskqd.crypto.sealing import Sealer, checkpoint_of
from taskqd.errors import JobInterrupted, TaskTimeout
from taskqd.jobs.codec import decode_plain, encode_checked
from taskqd.jobs.job import Envelope, Lease, Marks
from taskqd.storage.features import Features, LeaseKey


class SlotLike(Protocol):
    """What a slot offers to the job that it runs."""

    @property
    def worker(self) -> str:
        """The worker's id, "" where no worker runs the job (immediate mode)."""
        ...

    @property
    def stopping(self) -> bool:
        """The worker drains, or the job was asked to stop: it should come to an end."""
        ...

    @property
    def end_fork(self) -> Callable[[], object] | None:
        """Ends this process where the job has forked it from its worker; else None."""
        ...

    def seconds_left(self) -> float:
        """Seconds until the job is interrupted (inf while the worker is not stopping)."""
        ...

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None: ...

    def end(self) -> None: ...

    @property
    def revoked(self) -> bool:
        """The job itself was asked to stop."""
        ...

    @property
    def stops_plain_code(self) -> bool:
        """`limit` works for plain functions too."""
        ...

    def limit(self, seconds: float, message: str) -> None:
        """Have TaskTimeout raised in the job after so many seconds, where this kind can."""
        ...

    async def watched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await the job's coroutine, so that it can be stopped."""
        ...

    @property
    def async_runner(self) -> asyncio.Runner:
        """The event loop of this slot, for `async def` tasks in kinds without a loop."""
        ...


class JobApp(Protocol):
    """What a running job needs of its app."""

    @property
    def features(self) -> Features: ...

    @property
    def sealer(self) -> Sealer | None: ...


class CurrentJob:
    """One attempt of one job, seen from inside its task."""

    __slots__ = (
        "_app",
        "_envelope",
        "_lease",
        "_marks",
        "_notes",
        "_slot",
        "_soft_timeout",
        "_started",
    )

    def __init__(
        self,
        lease: Lease,
        envelope: Envelope,
        marks: Marks,
        slot: SlotLike,
        started: float,
        app: JobApp,
        soft_timeout: float | None = None,
    ) -> None:
        """`started`: monotonic; `soft_timeout`: seconds from then."""
        self._app = app
        self._notes: dict[str, bytes] | None = None
        self._lease = lease
        self._envelope = envelope
        self._marks = marks
        self._slot = slot
        self._started = started
        self._soft_timeout = soft_timeout

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
    def worker(self) -> str:
        """The id of the worker that runs it, "" in immediate mode."""
        return self._slot.worker

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
        tick_ms = self._envelope.s
        return None if tick_ms is None else datetime.fromtimestamp(tick_ms / 1000, UTC)

    @property
    def headers(self) -> dict[str, str]:
        """What travels with the job (trace context)."""
        return self._envelope.h or {}

    @property
    def stopping(self) -> bool:
        """The worker is draining, or the job was revoked: save what is worth saving and return."""
        return self._slot.stopping

    @property
    def revoked(self) -> bool:
        """The job itself was asked to stop: it will not run again."""
        return self._slot.revoked

    @property
    def seconds_left(self) -> float:
        """Seconds until the job is interrupted; inf while the worker is not stopping."""
        return self._slot.seconds_left()

    def check(self) -> None:
        """Raise JobInterrupted if the job should stop: call it where stopping is safe.

        Raises TaskTimeout once the job's `soft_timeout` is over.
        """
        if self._slot.stopping:
            raise JobInterrupted
        limit_s = self._soft_timeout
        if limit_s is not None and monotonic_s() > self._started + limit_s:
            raise TaskTimeout(overrun("soft_timeout", limit_s))

    # -- what is kept with the job -----------------------------------------------------------

    def checkpoint(self, state: Any) -> None:
        """Keep `state` (JSON types, dataclass, ...) for the next attempt, if there is one.

        It survives interruption, crash and change of host.  Raises JobInterrupted where the job
        is not this worker's any more, EncodeError, StorageError.
        """
        data = encode_checked(state, f"{self.task}: checkpoint")
        if self._app.sealer is not None:
            data = self._app.sealer.seal_value(checkpoint_of(self.id), state, data, pickles=False)
        self._note("checkpoint", data)

    @property
    def checkpointed(self) -> Any:
        """The state of the last checkpoint, of this attempt or an earlier one; None: none yet."""
        data = self._read_notes().get("checkpoint")
        if data is None or self._app.sealer is None:
            return None if data is None else decode_plain(data)
        return self._app.sealer.unseal_value(checkpoint_of(self.id), data, pickles=False)

    def progress(self, done: float, total: float | None = None) -> None:
        """Tell how far the job has come; `Result.info()` shows it."""
        self._note("progress", encode_checked([done, total], f"{self.task}: progress"))

    def once(self, key: str) -> bool:
        """Return True once per job and key, over all attempts: guard an effect with it."""
        return self._note(f"once:{key}", b"true", once=True)

    def _note(self, key: str, value: bytes, *, once: bool = False) -> bool:
        hold = LeaseKey(self._slot.worker, self.id, self.queue, self.token)
        noted = self._app.features.note(hold, key, value, once=once)
        if noted == "fenced":
            raise JobInterrupted(f"job {self.id} is not this worker's any more")
        if self._notes is not None and noted == "kept":
            self._notes[key] = value
        return noted == "kept"

    def _read_notes(self) -> dict[str, bytes]:
        if self._notes is None:
            self._notes = self._app.features.notes(self.id, self.queue)
        return self._notes


CURRENT: ContextVar[CurrentJob | None] = ContextVar("taskqd_current_job", default=None)
"""Set by who calls a task's function, for as long as that runs."""


def peek_current() -> CurrentJob | None:
    """Return the job that runs here, None outside a task."""
    return CURRENT.get()


def current_job() -> CurrentJob:
    """Return the job that runs here.  Raises LookupError outside a task."""
    job = CURRENT.get()
    if job is None:
        raise LookupError("current_job(): no job is running here; call it inside a task")
    return job


def overrun(limit: str, seconds: float) -> str:
    """Return what TaskTimeout says of a job that ran longer than its `timeout` or `soft_timeout`."""
    return f"ran longer than its {limit} of {seconds:g} s"


__all__ = ["CURRENT", "CurrentJob", "SlotLike", "current_job", "overrun", "peek_current"]

"""One attempt of one job, from its lease to its outcome.

A pipeline: open the record, refuse what must not run, call the task, classify how it ended.  Each
step returns an Outcome as soon as it is known; nothing here talks to a storage.  The same path
serves every worker kind and immediate mode.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec

from taskqd import events
from taskqd.clock import monotonic_s, now_ms
from taskqd.current import CurrentJob, Place, _current
from taskqd.endings import Endings, call_options, facts_of
from taskqd.envelope import unpack
from taskqd.errors import (
    CancelExecution,
    DecodeError,
    EncodeError,
    JobInterrupted,
    PayloadTooLarge,
    RetryTask,
    SignatureError,
    TaskLockedException,
    TaskTimeout,
)
from taskqd.failures import describe, trace_of
from taskqd.job import (
    NO_MARKS,
    BadRecord,
    Envelope,
    Lease,
    Marks,
    Outcome,
    Reason,
    clip,
    split_record,
)
from taskqd.log import Log
from taskqd.options import TaskOptions
from taskqd.registry import AppLike, Opened, TaskLike
from taskqd.retry import may_retry, retry_delay_s
from taskqd.settings import LimitSettings


class Runner:
    """Runs jobs of one app.  Thread-safe: it keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings, log: Log) -> None:
        self._app = app
        self._limits = limits
        self._log = log
        self._ends = Endings(app, limits, log)
        self._tells_start = log.enabled(events.JOB_STARTED)
        self._handlers = app.listeners.handlers
        self._some_ack_each = any(t.settings.ack == "each" for t in app.registry.values())
        app.listeners.report = self._report_listener

    def run(self, lease: Lease, place: Place) -> Outcome:
        """Run one job to its outcome.  Never raises: what the task raises is classified."""
        opened = self._open(lease)
        if isinstance(opened, Outcome):
            return opened
        started = monotonic_s()
        job = self._begin(opened, place, started)
        token = _current.set(job)
        try:
            value = self._call(opened, job, place)
        except BaseException as error:
            return self._raised(opened, job, error, started)
        else:
            return self._returned(opened, job, value, started)
        finally:
            place.end()
            _current.reset(token)

    async def arun(self, lease: Lease, place: Place) -> Outcome:
        """`run` on an event loop: `async def` tasks are awaited, others run in a thread."""
        opened = self._open(lease)
        if isinstance(opened, Outcome):
            return opened
        started = monotonic_s()
        job = self._begin(opened, place, started)
        token = _current.set(job)
        try:
            value = await self._acall(opened, job)
        except BaseException as error:
            return self._raised(opened, job, error, started)
        else:
            return self._returned(opened, job, value, started)
        finally:
            place.end()
            _current.reset(token)

    def interrupted(self, lease: Lease) -> Outcome:
        """Return the outcome of a job that is stopped with its worker."""
        marks, options, task = self._peek(lease)
        return self._ends.interrupt(lease, marks, options, task)

    def acks_each(self, lease: Lease) -> bool:
        """Return whether the job's outcome must be settled at once (`ack="each"`)."""
        return self._some_ack_each and self._peek(lease)[1].ack == "each"

    # -- open and refuse ---------------------------------------------------------------------

    def _open(self, lease: Lease) -> Opened | Outcome:
        try:
            unpacked = unpack(
                lease.record,
                namespace=self._app.name,
                queue=lease.queue,
                job_id=lease.id,
                signer=self._app.signer,
            )
        except SignatureError as error:
            return self._ends.refuse(lease, Reason.UNSIGNED, str(error))
        except (BadRecord, DecodeError) as error:
            return self._ends.refuse(lease, Reason.UNDECODABLE, str(error))
        envelope, marks = unpacked.envelope, unpacked.marks
        task = self._app.registry.get(envelope.t)
        if task is None:
            message = f"no task named {envelope.t!r} is declared in app {self._app.name!r}"
            return self._ends.refuse(lease, Reason.UNKNOWN_TASK, message, envelope, marks)
        options = call_options(task.settings, envelope)
        refusal = self._over_budget(lease, envelope, marks, options)
        if refusal is not None:
            return refusal
        if envelope.x is not None and envelope.x < now_ms():
            return self._ends.cancel(lease, envelope, marks, options, Reason.EXPIRED)
        return self._decode_call(lease, envelope, marks, task, options)

    def _over_budget(
        self, lease: Lease, envelope: Envelope, marks: Marks, options: TaskOptions
    ) -> Outcome | None:
        if marks is NO_MARKS:
            return None
        if options.at_most_once and (marks.crashes or marks.interruptions):
            return self._ends.refuse(lease, Reason.LOST, marks.error, envelope, marks)
        if marks.crashes >= options.max_crashes:
            return self._ends.refuse(lease, Reason.POISONED, marks.error, envelope, marks)
        limit = options.max_interruptions
        if limit is not None and marks.interruptions > limit:
            return self._ends.refuse(lease, Reason.INTERRUPTIONS, marks.error, envelope, marks)
        return None

    def _decode_call(
        self, lease: Lease, envelope: Envelope, marks: Marks, task: TaskLike, options: TaskOptions
    ) -> Opened | Outcome:
        if len(lease.record) > self._limits.payload_bytes_max + _MARKS_BYTES_MAX:
            message = f"the record has {len(lease.record)} bytes; see limits.payload_bytes_max"
            return self._ends.refuse(lease, Reason.OVERSIZED, message, envelope, marks)
        try:
            args, kwargs = task.codec.decode_call(envelope.a, envelope.k)
        except DecodeError as error:
            return self._ends.refuse(lease, Reason.REJECTED, str(error), envelope, marks)
        problem = task.codec.fits(args, kwargs)
        if problem is not None:
            return self._ends.refuse(lease, Reason.REJECTED, problem, envelope, marks)
        return Opened(lease, envelope, marks, task, options, args, kwargs)

    # -- call --------------------------------------------------------------------------------

    def _begin(self, opened: Opened, place: Place, started: float) -> CurrentJob:
        lease, options = opened.lease, opened.options
        job = CurrentJob(lease, opened.envelope, opened.marks, place, started)
        if options.soft_timeout is not None:
            job._soft_deadline = started + options.soft_timeout
        place.begin(lease.token, lease.id, opened.envelope.t, options.timeout)
        if self._tells_start:
            self._log.emit(events.JOB_STARTED, **facts_of(job))
        if "executing" in self._handlers:
            self._app.listeners.tell("executing", job)
        return job

    def _call(self, opened: Opened, job: CurrentJob, place: Place) -> Any:
        self._before(opened, job)
        value = opened.task.function(*opened.args, **opened.kwargs)
        if opened.task.is_async:
            value = place.async_runner.run(value)
        return value

    async def _acall(self, opened: Opened, job: CurrentJob) -> Any:
        self._before(opened, job)
        function = opened.task.function
        if opened.task.is_async:
            return await function(*opened.args, **opened.kwargs)
        return await asyncio.to_thread(function, *opened.args, **opened.kwargs)

    def _before(self, opened: Opened, job: CurrentJob) -> None:
        if opened.task.codec.injected is not None:
            opened.kwargs[opened.task.codec.injected] = job
        self._app.listeners.run_hooks("pre_execute", job)

    # -- classify ----------------------------------------------------------------------------

    def _returned(self, opened: Opened, job: CurrentJob, value: Any, started: float) -> Outcome:
        try:
            data = self._ends.encode_result(opened, value)
        except (EncodeError, PayloadTooLarge) as error:
            # Running it again would repeat its effects and fail in the same way.
            return self._ends.fail(opened, job, error, started, Reason.FAILED)
        self._after(opened, job, value, None)
        return self._ends.done(opened, job, data, started)

    def _raised(
        self, opened: Opened, job: CurrentJob, error: BaseException, started: float
    ) -> Outcome:
        self._after(opened, job, None, error)
        if isinstance(error, RetryTask):
            return self._ends.retry_asked(opened, job, error, started)
        if isinstance(error, CancelExecution):
            reason = clip(str(error)) or Reason.CANCELLED
            return self._ends.cancel(
                opened.lease, opened.envelope, opened.marks, opened.options, reason, job
            )
        if isinstance(error, JobInterrupted):
            return self._ends.interrupt(
                opened.lease, opened.marks, opened.options, opened.envelope.t
            )
        if isinstance(error, TaskLockedException):
            outcome = self._locked(opened, job, error)
            if outcome is not None:
                return outcome
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeout) else Reason.FAILED
        failures = opened.marks.failures + 1
        if may_retry(opened.options, failures, error):
            delay_s = retry_delay_s(opened.options, failures, random.random())
            return self._ends.retry(opened, job, error, started, delay_s, failures)
        return self._ends.fail(opened, job, error, started, reason)

    def _locked(self, opened: Opened, job: CurrentJob, error: BaseException) -> Outcome | None:
        """A lock that is held is a state, not a failure: skip, or come back later."""
        if "locked" in self._handlers:
            self._app.listeners.tell("locked", job, error)
        policy = opened.options.on_locked
        if policy == "skip":
            return self._ends.cancel(
                opened.lease, opened.envelope, opened.marks, opened.options, Reason.SKIPPED, job
            )
        if policy == "requeue":
            return self._ends.come_back(opened)
        return None

    def _after(
        self, opened: Opened, job: CurrentJob, value: Any, error: BaseException | None
    ) -> None:
        if self._app.listeners.has_hooks("post_execute"):
            self._app.listeners.run_hooks("post_execute", job, value, error)

    def _peek(self, lease: Lease) -> tuple[Marks, TaskOptions, str]:
        """Return what can be known of a job without refusing it."""
        try:
            marks, payload, _ = split_record(lease.record)
            envelope = _decode_envelope(payload)
        except (BadRecord, msgspec.MsgspecError, ValueError):
            return NO_MARKS, _DEFAULTS, ""
        task = self._app.registry.get(envelope.t)
        options = _DEFAULTS if task is None else call_options(task.settings, envelope)
        return marks, options, envelope.t

    def _report_listener(self, kind: str, name: str, error: BaseException) -> None:
        self._log.emit(
            events.HOOK_FAILED,
            hook=f"{kind} {name}",
            error=describe(error),
            traceback=trace_of(error),
        )


_DEFAULTS = TaskOptions()
_MARKS_BYTES_MAX = 4096
_decode_envelope = msgspec.json.Decoder(Envelope).decode

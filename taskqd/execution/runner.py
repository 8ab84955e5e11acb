"""One attempt of one job, from its lease to its outcome.

Steps: open the record, refuse what must not run, call the task, classify how it ended.  The first to
know an Outcome returns it; none talks to a storage.  The same for all kinds, and immediate mode.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from taskqd.clock import monotonic_s
from taskqd.errors import (
    CancelExecution,
    EncodeError,
    JobInterrupted,
    PayloadTooLarge,
    RetryTask,
    TaskLockedException,
    TaskTimeout,
)
from taskqd.execution import gates
from taskqd.execution.admission import Admission
from taskqd.execution.continuations import follows
from taskqd.execution.current_job import CurrentJob, SlotLike, _current
from taskqd.execution.outcomes import Outcomes, facts_of
from taskqd.execution.protocols import AppLike, Opened
from taskqd.jobs.exception_text import describe, message_of, trace_of
from taskqd.jobs.job import Lease, Outcome, Reason, clip
from taskqd.jobs.retry import may_retry, retry_delay_s
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import LimitSettings

_LOCKED_MS = (500, 1500)
"""A job that met a held lock inside its own code comes back after a random time between these."""


class Runner:
    """Runs jobs of one app.  Thread-safe: it keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings, log: Log) -> None:
        self._app = app
        self._limits = limits
        self._log = log
        self._ends = Outcomes(app, limits, log)
        self._admission = Admission(app, limits, self._ends)
        self._tells_start = log.enabled(events.JOB_STARTED)
        self._handlers = app.listeners.handlers
        self._hooks_before = app.listeners.hooks("pre_execute")
        self._hooks_after = app.listeners.hooks("post_execute")
        self._some_ack_each = any(t.settings.ack == "each" for t in app.registry.values())
        app.listeners.report = self._report_listener
        app.listeners.report_slow = self._report_slow

    def run(self, lease: Lease, slot: SlotLike) -> Outcome:
        """Run one job to its outcome.  Never raises: what the task raises is classified."""
        opened = self._admission.open(lease)
        if isinstance(opened, Outcome):
            return opened
        started = monotonic_s()
        held = self._enter(opened, slot, started) if opened.task.gated else None
        if isinstance(held, Outcome):
            return held
        job = self._begin(opened, slot, started)
        token = _current.set(job)
        try:
            value = self._call(opened, job, slot)
        except BaseException as error:
            return self._raised(opened, job, error, started)
        else:
            return self._returned(opened, job, value, started)
        finally:
            slot.end()
            _current.reset(token)
            if held is not None:
                held.leave()

    async def arun(self, lease: Lease, slot: SlotLike) -> Outcome:
        """`run` on a loop: plain functions, and what asks the storage, run in threads."""
        asks = self._admission.asks(lease)
        opened = (
            await asyncio.to_thread(self._admission.open, lease)
            if asks
            else self._admission.open(lease)
        )
        if isinstance(opened, Outcome):
            return opened
        started = monotonic_s()
        held = None
        if opened.task.gated:
            held = await asyncio.to_thread(self._enter, opened, slot, started)
        if isinstance(held, Outcome):
            return held
        job = self._begin(opened, slot, started)
        token = _current.set(job)
        end: Callable[[], Outcome]
        try:
            value = await self._acall(opened, job, slot)
        except BaseException as error:
            end = partial(self._raised, opened, job, error, started)
        else:
            end = partial(self._returned, opened, job, value, started)
        try:
            return await asyncio.to_thread(end) if follows(opened.envelope) else end()
        finally:
            slot.end()
            _current.reset(token)
            if held is not None:
                await asyncio.to_thread(held.leave)

    def interrupted(self, lease: Lease, late: str = "") -> Outcome:
        """Return the outcome of a job that is left running; `late`: how it overran its timeout."""
        marks, options, task = self._admission.peek(lease)
        if late:
            return self._ends.killed(lease, marks, late)
        return self._ends.interrupt(lease, marks, options, task)

    def heed(self, orders: int) -> None:
        """Look at the standing orders before each job from now on; see `Leased.revocations`."""
        self._admission.heed(orders)

    def acks_each(self, lease: Lease) -> bool:
        """Return whether the job's outcome must be settled before its slot goes on.

        So it is for `ack="each"`, and for `at_most_once`: were an end forgotten, it would run again.
        """
        if not self._some_ack_each:
            return False
        options = self._admission.peek(lease)[1]
        return options.ack == "each" or options.at_most_once

    # -- gates -------------------------------------------------------------------------------

    def _enter(self, opened: Opened, slot: SlotLike, started: float) -> gates.Passed | Outcome:
        """Pass the gates of the job's task: its lock, its share of places, its rate."""
        try:
            passed = gates.enter(self._app, opened, slot.worker)
        except Exception as problem:  # a template looks into a user's objects
            return self._raised(opened, self._job(opened, slot, started), problem, started)
        if isinstance(passed, gates.Passed):
            return passed
        job = self._job(opened, slot, started)
        if passed.reason is Reason.LOCKED and opened.options.lock is not None:
            error = TaskLockedException(f"lock {passed.what!r} is held by someone else")
            outcome = self._locked(opened, job, error, passed.delay_ms)
            return outcome or self._raised(opened, job, error, started)
        if passed.reason is Reason.RATE_LIMITED and "rate-limited" in self._handlers:
            self._app.listeners.tell("rate-limited", job)
        return self._ends.come_back(opened.lease, opened.marks, passed.reason, passed.delay_ms)

    # -- call --------------------------------------------------------------------------------

    def _begin(self, opened: Opened, slot: SlotLike, started: float) -> CurrentJob:
        lease, options = opened.lease, opened.options
        job = self._job(opened, slot, started)
        if options.at_most_once:
            self._some_ack_each = True
        if options.soft_timeout is not None:
            job._soft_deadline = started + options.soft_timeout
            job._over = f"ran longer than its soft_timeout of {options.soft_timeout:g} s"
            slot.limit(options.soft_timeout, job._over)
        slot.begin(lease.token, lease.id, opened.envelope.t, options.timeout)
        if self._tells_start:
            self._log.emit(events.JOB_STARTED, **facts_of(job))
        if "executing" in self._handlers:
            self._app.listeners.tell("executing", job)
        return job

    def _job(self, opened: Opened, slot: SlotLike, started: float) -> CurrentJob:
        return CurrentJob(opened.lease, opened.envelope, opened.marks, slot, started, self._app)

    def _call(self, opened: Opened, job: CurrentJob, slot: SlotLike) -> Any:
        self._before(opened, job)
        if opened.task.is_async or slot.stops_plain_code:
            _limit_call(opened, slot)
        try:
            value = opened.task.function(*opened.args, **opened.kwargs)
            if opened.task.is_async:
                # A runner of its own keeps the context of its first job, and so `current_job`.
                value = slot.async_runner.run(slot.watched(value), context=copy_context())
        finally:
            if slot.end_fork is not None:
                slot.end_fork()
        return value

    async def _acall(self, opened: Opened, job: CurrentJob, slot: SlotLike) -> Any:
        self._before(opened, job)
        if not opened.task.is_async:
            return await asyncio.to_thread(_run_plain_in_thread, opened, slot)
        _limit_call(opened, slot)
        try:
            return await slot.watched(opened.task.function(*opened.args, **opened.kwargs))
        finally:
            if slot.end_fork is not None:
                slot.end_fork()

    def _before(self, opened: Opened, job: CurrentJob) -> None:
        if opened.task.codec.injected is not None:
            opened.kwargs[opened.task.codec.injected] = job
        if self._hooks_before:
            self._app.listeners.run_hooks("pre_execute", job)

    # -- classify ----------------------------------------------------------------------------

    def _returned(self, opened: Opened, job: CurrentJob, value: Any, started: float) -> Outcome:
        try:
            data = self._ends.encode_result(opened, value)
        except (EncodeError, PayloadTooLarge) as error:
            # Running it again would repeat its effects and fail in the same way.
            return self._ends.fail(opened, job, error, started, Reason.FAILED)
        self._after(opened, job, value, None)
        return self._ends.done(opened, job, value, data, started)

    def _raised(
        self, opened: Opened, job: CurrentJob, error: BaseException, started: float
    ) -> Outcome:
        self._after(opened, job, None, error)
        if isinstance(error, RetryTask):
            return self._ends.retry_asked(opened, job, error, started)
        if isinstance(error, CancelExecution):
            return self._cancelled(opened, job, clip(message_of(error)) or Reason.CANCELLED)
        if isinstance(error, JobInterrupted) or (
            isinstance(error, asyncio.CancelledError) and job.stopping
        ):
            if job.revoked:
                return self._cancelled(opened, job, Reason.REVOKED)
            return self._ends.interrupt(
                opened.lease, opened.marks, opened.options, opened.envelope.t
            )
        if isinstance(error, TaskLockedException):
            outcome = self._locked(opened, job, error, round(random.uniform(*_LOCKED_MS)))
            if outcome is not None:
                return outcome
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeout) else Reason.FAILED
        failures = opened.marks.failures + 1
        if may_retry(opened.options, failures, error):
            if job.revoked:
                return self._cancelled(opened, job, Reason.REVOKED)
            delay_s = retry_delay_s(opened.options, failures, random.random())
            return self._ends.retry(opened, job, error, started, delay_s, failures)
        return self._ends.fail(opened, job, error, started, reason)

    def _cancelled(self, opened: Opened, job: CurrentJob, reason: str) -> Outcome:
        """The job has begun and has no other attempt."""
        return self._ends.cancel(
            opened.lease, opened.envelope, opened.marks, opened.options, reason, job
        )

    def _locked(
        self, opened: Opened, job: CurrentJob, error: BaseException, delay_ms: int
    ) -> Outcome | None:
        """A lock that is held is a state, not a failure: skip, or come back when it is free."""
        if "locked" in self._handlers:
            self._app.listeners.tell("locked", job, error)
        policy = opened.options.on_locked
        if policy == "skip":
            return self._cancelled(opened, job, Reason.SKIPPED)
        if policy == "requeue":
            return self._ends.come_back(opened.lease, opened.marks, Reason.LOCKED, delay_ms)
        return None

    def _after(
        self, opened: Opened, job: CurrentJob, value: Any, error: BaseException | None
    ) -> None:
        if self._hooks_after:
            self._app.listeners.run_hooks("post_execute", job, value, error)

    def _report_listener(self, kind: str, name: str, error: BaseException) -> None:
        self._log.emit(
            events.HOOK_FAILED,
            hook=f"{kind} {name}",
            error=describe(error),
            traceback=trace_of(error),
        )

    def _report_slow(self, kind: str, name: str, took_s: float) -> None:
        self._log.emit(events.HOOK_SLOW, hook=f"{kind} {name}", took_s=round(took_s, 1))


def _limit_call(opened: Opened, slot: SlotLike) -> None:
    """What can be stopped alone need not cost its worker at its `timeout`."""
    if (timeout_s := opened.options.timeout) is not None:
        slot.limit(timeout_s, f"ran longer than its timeout of {timeout_s:g} s")


def _run_plain_in_thread(opened: Opened, slot: SlotLike) -> Any:
    try:
        return opened.task.function(*opened.args, **opened.kwargs)
    finally:
        if slot.end_fork is not None:
            slot.end_fork()


ENTRANCES = frozenset(f.__code__ for f in (Runner._call, Runner._acall, _run_plain_in_thread))
"""All functions that call a user's function.  What they call is the job's own code."""

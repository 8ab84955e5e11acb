"""One attempt of one job, from its lease to its outcome.

A pipeline: admit the job or refuse it, pass its gates, call the task, classify how it ended.  Each
step returns an Outcome as soon as it is known; nothing here talks to a storage.  The same path
serves every worker kind and immediate mode.
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
from taskqd.execution.attempt import Attempt
from taskqd.execution.current_job import CURRENT, CurrentJob, SlotLike, overrun
from taskqd.execution.outcomes import Outcomes
from taskqd.execution.protocols import AppLike
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
        self._log = log
        self._outcomes = Outcomes(app, limits, log)
        self._requeues = self._outcomes.requeues
        self._admission = Admission(app, limits, self._outcomes)
        self._tells_start = log.enabled(events.JOB_STARTED)
        self._handlers = app.listeners.handlers
        self._hooks_before = app.listeners.hooks("pre_execute")
        self._hooks_after = app.listeners.hooks("post_execute")
        self._some_ack_each = any(t.settings.ack == "each" for t in app.registry.values())
        app.listeners.report = self._report_listener
        app.listeners.report_slow = self._report_slow

    def run(self, lease: Lease, slot: SlotLike) -> Outcome:
        """Run one job to its outcome.  Never raises: what the task raises is classified."""
        attempt = self._admission.admit(lease)
        if isinstance(attempt, Outcome):
            return attempt
        attempt.started_s = monotonic_s()
        passed = self._enter(attempt, slot) if attempt.task.gated else None
        if isinstance(passed, Outcome):
            return passed
        job = self._begin(attempt, slot)
        token = CURRENT.set(job)
        try:
            value = self._call(attempt, job, slot)
        except BaseException as error:
            return self._raised(attempt, job, error)
        else:
            return self._returned(attempt, job, value)
        finally:
            slot.end()
            CURRENT.reset(token)
            if passed is not None:
                passed.leave()

    async def arun(self, lease: Lease, slot: SlotLike) -> Outcome:
        """`run` on a loop: plain functions, and what asks the storage, run in threads."""
        admit = self._admission.admit
        asks = self._admission.asks(lease)
        attempt = await asyncio.to_thread(admit, lease) if asks else admit(lease)
        if isinstance(attempt, Outcome):
            return attempt
        attempt.started_s = monotonic_s()
        passed = None
        if attempt.task.gated:
            passed = await asyncio.to_thread(self._enter, attempt, slot)
        if isinstance(passed, Outcome):
            return passed
        job = self._begin(attempt, slot)
        token = CURRENT.set(job)
        end: Callable[[], Outcome]
        try:
            value = await self._acall(attempt, job, slot)
        except BaseException as error:
            end = partial(self._raised, attempt, job, error)
        else:
            end = partial(self._returned, attempt, job, value)
        try:
            return end()
        finally:
            slot.end()
            CURRENT.reset(token)
            if passed is not None:
                await asyncio.to_thread(passed.leave)

    def interrupted(self, lease: Lease, late: str = "") -> Outcome:
        """Return the outcome of a job that is left running; `late`: how it overran its timeout."""
        attempt = self._admission.peek(lease)
        if late:
            return self._requeues.requeue_killed(attempt, late)
        return self._requeues.requeue_interrupted(attempt)

    def keep_time(self, read: Callable[[], int]) -> None:
        """Look at the storage's clock now and then; `read` returns its Unix ms."""
        self._app.clock.refresh(read)

    def heed(self, orders: int) -> None:
        """Look at the standing orders before each job from now on; see `Leased.revocations`."""
        self._admission.heed(orders)

    def acks_each(self, lease: Lease) -> bool:
        """Return whether the job's outcome must be settled before its slot goes on.

        So it is for `ack="each"`, and for `at_most_once`: were an end forgotten, it would run again.
        """
        if not self._some_ack_each:
            return False
        options = self._admission.peek(lease).options
        return options.ack == "each" or options.at_most_once

    # -- gates -------------------------------------------------------------------------------

    def _enter(self, attempt: Attempt, slot: SlotLike) -> gates.Passed | Outcome:
        """Pass the gates of the job's task: its lock, its share of places, its rate."""
        try:
            passed = gates.enter(self._app, attempt, slot.worker)
        except Exception as problem:  # a template looks into a user's objects
            return self._raised(attempt, self._job(attempt, slot), problem)
        if isinstance(passed, gates.Passed):
            return passed
        job = self._job(attempt, slot)
        if passed.reason is Reason.LOCKED and attempt.options.lock is not None:
            error = TaskLockedException(f"lock {passed.what!r} is held by someone else")
            outcome = self._locked(attempt, job, error, passed.delay_ms)
            return outcome or self._raised(attempt, job, error)
        if passed.reason is Reason.RATE_LIMITED and "rate-limited" in self._handlers:
            self._app.listeners.tell("rate-limited", job)
        return self._requeues.postpone(attempt, passed.reason, passed.delay_ms)

    # -- call --------------------------------------------------------------------------------

    def _begin(self, attempt: Attempt, slot: SlotLike) -> CurrentJob:
        lease, options = attempt.lease, attempt.options
        job = self._job(attempt, slot)
        if options.at_most_once:
            self._some_ack_each = True
        if options.soft_timeout is not None:
            slot.limit(options.soft_timeout, overrun("soft_timeout", options.soft_timeout))
        slot.begin(lease.token, lease.id, attempt.envelope.t, options.timeout)
        if self._tells_start:
            self._log.emit(events.JOB_STARTED, **attempt.facts(job.attempt))
        if "executing" in self._handlers:
            self._app.listeners.tell("executing", job)
        return job

    def _job(self, attempt: Attempt, slot: SlotLike) -> CurrentJob:
        attempt.job = job = CurrentJob(
            attempt.lease,
            attempt.envelope,
            attempt.marks,
            slot,
            attempt.started_s,
            self._app,
            attempt.options.soft_timeout,
        )
        return job

    def _call(self, attempt: Attempt, job: CurrentJob, slot: SlotLike) -> Any:
        task = attempt.task
        self._before(attempt, job)
        if task.is_async or slot.stops_plain_code:
            _limit_call(attempt, slot)
        try:
            value = task.function(*attempt.args, **attempt.kwargs)
            if task.is_async:
                # A runner of its own keeps the context of its first job, and so `current_job`.
                value = slot.async_runner.run(slot.watched(value), context=copy_context())
        finally:
            if slot.end_fork is not None:
                slot.end_fork()
        return value

    async def _acall(self, attempt: Attempt, job: CurrentJob, slot: SlotLike) -> Any:
        self._before(attempt, job)
        if not attempt.task.is_async:
            return await asyncio.to_thread(_run_plain_in_thread, attempt, slot)
        _limit_call(attempt, slot)
        try:
            return await slot.watched(attempt.task.function(*attempt.args, **attempt.kwargs))
        finally:
            if slot.end_fork is not None:
                slot.end_fork()

    def _before(self, attempt: Attempt, job: CurrentJob) -> None:
        injected = attempt.task.codec.injected
        if injected is not None:
            attempt.kwargs[injected] = job
        if self._hooks_before:
            self._app.listeners.run_hooks("pre_execute", job)

    # -- classify ----------------------------------------------------------------------------

    def _returned(self, attempt: Attempt, job: CurrentJob, value: Any) -> Outcome:
        try:
            data = self._outcomes.encode_result(attempt, value)
        except (EncodeError, PayloadTooLarge) as error:
            # Running it again would repeat its effects and fail in the same way.
            return self._outcomes.fail(attempt, error, Reason.FAILED)
        self._after(job, value, None)
        return self._outcomes.done(attempt, value, data)

    def _raised(self, attempt: Attempt, job: CurrentJob, error: BaseException) -> Outcome:
        self._after(job, None, error)
        if isinstance(error, RetryTask):
            return self._outcomes.retry_asked(attempt, error)
        if isinstance(error, CancelExecution):
            return self._outcomes.cancel(attempt, clip(message_of(error)) or Reason.CANCELLED)
        if isinstance(error, JobInterrupted) or (
            isinstance(error, asyncio.CancelledError) and job.stopping
        ):
            if job.revoked:
                return self._outcomes.cancel(attempt, Reason.REVOKED)
            return self._requeues.requeue_interrupted(attempt)
        if isinstance(error, TaskLockedException):
            outcome = self._locked(attempt, job, error, round(random.uniform(*_LOCKED_MS)))
            if outcome is not None:
                return outcome
        reason = Reason.TIMEOUT if isinstance(error, TaskTimeout) else Reason.FAILED
        failures = attempt.marks.failures + 1
        if may_retry(attempt.options, failures, error):
            if job.revoked:
                return self._outcomes.cancel(attempt, Reason.REVOKED)
            delay_s = retry_delay_s(attempt.options, failures, random.random())
            return self._outcomes.retry(attempt, error, delay_s, failures)
        return self._outcomes.fail(attempt, error, reason)

    def _locked(
        self, attempt: Attempt, job: CurrentJob, error: BaseException, delay_ms: int
    ) -> Outcome | None:
        """A lock that is held is a state, not a failure: skip, or come back when it is free."""
        if "locked" in self._handlers:
            self._app.listeners.tell("locked", job, error)
        policy = attempt.options.on_locked
        if policy == "skip":
            return self._outcomes.cancel(attempt, Reason.SKIPPED)
        if policy == "requeue":
            return self._requeues.postpone(attempt, Reason.LOCKED, delay_ms)
        return None

    def _after(self, job: CurrentJob, value: Any, error: BaseException | None) -> None:
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


def _limit_call(attempt: Attempt, slot: SlotLike) -> None:
    """What can be stopped alone need not cost its worker at its `timeout`."""
    if (timeout_s := attempt.options.timeout) is not None:
        slot.limit(timeout_s, overrun("timeout", timeout_s))


def _run_plain_in_thread(attempt: Attempt, slot: SlotLike) -> Any:
    try:
        return attempt.task.function(*attempt.args, **attempt.kwargs)
    finally:
        if slot.end_fork is not None:
            slot.end_fork()


ENTRANCES = frozenset(f.__code__ for f in (Runner._call, Runner._acall, _run_plain_in_thread))
"""All functions that call a user's function.  What they call is the job's own code."""

"""How an attempt ends: builds the End and the Answer, with what is logged of it, tells the handlers.

One place for each ending, so that storage, log and signals always say the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskqd.clock import moment_ms, monotonic_s
from taskqd.crypto.sealing import result_of
from taskqd.errors import ConfigError, PayloadTooLarge, RetryTask
from taskqd.execution.attempt import SKIPPED_TTL_S, Attempt
from taskqd.execution.continuations import after_failure, after_value, follows
from taskqd.execution.dead_letters import DeadLetters
from taskqd.execution.protocols import AppLike
from taskqd.execution.requeues import Requeues
from taskqd.jobs.codec import encode_checked
from taskqd.jobs.end import End
from taskqd.jobs.exception_text import describe, message_of, trace_of, type_name_of
from taskqd.jobs.job import Answer, Failure, Reason, clip
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import LimitSettings

_SIGNAL_OF: dict[str, str] = {Reason.EXPIRED: "expired", Reason.REVOKED: "revoked"}
_NULL = msgspec.Raw(b"null")


class Outcomes:
    """Builds ends for the jobs of one app.  Keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings, log: Log) -> None:
        self._app = app
        self._limits = limits
        self._clock = app.clock
        self._handlers = app.listeners.handlers
        self._tells_done = log.enabled(events.JOB_DONE)
        self._sealer = app.sealer
        self.requeues = Requeues(app, log)
        self.dead_letters = DeadLetters(app, limits)

    def done(self, attempt: Attempt, value: Any, data: msgspec.Raw) -> End:
        """The task has returned `value`; `data`: the same, encoded."""
        lease, envelope = attempt.lease, attempt.envelope
        run_ms = (monotonic_s() - attempt.started_s) * 1000
        ttl_s = attempt.answer_ttl_s(self._app.result_ttl)
        attempts = attempt.marks.attempts + 1
        now = self._clock.estimate_ms()
        answer = Answer("done", lease.token, now, ttl_s, attempts, round(run_ms, 2), data)
        if follows(envelope):
            steps = after_value(self._app, envelope, lease.queue, answer, value)
            attempt.follow_ups = steps.follow_ups
            if steps.lost is not None and envelope.n:
                self.dead_letters.stage_lost(attempt, envelope.n[0], steps.lost)
        if self._tells_done:
            facts = attempt.facts(attempts) | self._times(attempt, run_ms)
            attempt.lines += ((events.JOB_DONE, facts),)
        if "complete" in self._handlers:
            self._app.listeners.tell("complete", attempt.job)
        return attempt.ended("ack", answer)

    def encode_result(self, attempt: Attempt, value: Any) -> msgspec.Raw:
        """Encode what a task has returned.  Raises EncodeError, PayloadTooLarge."""
        if value is None or not attempt.options.store_result:
            return _NULL
        sealer, task = self._sealer, attempt.envelope.t
        if sealer is None:
            data = encode_checked(value, f"{task}: result")
        else:
            plain = b"" if sealer.pickles else encode_checked(value, f"{task}: result")
            data = sealer.seal_value(result_of(attempt.lease.id), value, plain)
        if len(data) > self._limits.result_bytes_max:
            raise PayloadTooLarge(
                f"{task}: the result has {len(data)} bytes; at most"
                f" {self._limits.result_bytes_max} (limits.result_bytes_max)"
            )
        return msgspec.Raw(data)

    def retry_asked(self, attempt: Attempt, error: RetryTask) -> End:
        """RetryTask costs no failure; without a time of its own it waits `retry_delay`."""
        if error.delay is not None:
            delay_s = max(0.0, float(error.delay))
        elif error.eta is not None:
            now = self._clock.estimate_ms()
            try:
                eta_ms = moment_ms(error.eta, now, self._app.zone, absolute=True)
            except ConfigError as problem:
                return self.fail(attempt, problem, Reason.FAILED)
            delay_s = max(0.0, (eta_ms - now) / 1000)
        else:
            delay_s = attempt.options.retry_delay
        return self.retry(attempt, error, delay_s, attempt.marks.failures)

    def retry(self, attempt: Attempt, error: BaseException, delay_s: float, failures: int) -> End:
        """Run the job again, not before `delay_s`; `failures`: how many it counts from now on."""
        text = self._note_raised(events.JOB_RETRIED, attempt, error, delay_s=round(delay_s, 3))
        if "retrying" in self._handlers:
            self._app.listeners.tell("retrying", attempt.job, error)
        _count(attempt, text, failures)
        if delay_s > 0:
            self._app.listeners.tell("scheduled", attempt.view("retry"))
        return attempt.back("retry", delay_ms=round(delay_s * 1000))

    def fail(self, attempt: Attempt, error: BaseException, reason: Reason) -> End:
        """The task has raised, and no retry is left: it is given up."""
        trace = trace_of(error)
        text = self._note_raised(events.JOB_FAILED, attempt, error, traceback=trace)
        if reason is Reason.TIMEOUT and "timeout" in self._handlers:
            self._app.listeners.tell("timeout", attempt.job, error)
        if "error" in self._handlers:
            self._app.listeners.tell("error", attempt.job, error)
        _count(attempt, text, attempt.marks.failures + 1)
        failure = Failure(type_name_of(error), message_of(error), trace)
        return self.dead_letters.bury(attempt, reason, failure)

    def cancel(self, attempt: Attempt, reason: str) -> End:
        """The job ends without a value and without a failure, begun or not."""
        job = attempt.job
        ttl_s = min(attempt.answer_ttl_s(self._app.result_ttl), SKIPPED_TTL_S)
        attempts = attempt.marks.attempts + (job is not None)
        token = attempt.lease.token
        now = self._clock.estimate_ms()
        answer = Answer("cancelled", token, now, ttl_s, attempts, reason=str(reason))
        if follows(attempt.envelope):
            attempt.follow_ups = after_failure(self._app, attempt.envelope, answer)
        event = events.JOB_SKIPPED if job is None else events.JOB_CANCELLED
        attempt.lines += ((event, attempt.facts(attempts) | {"reason": reason}),)
        signal = _SIGNAL_OF.get(reason, "canceled")
        if signal in self._handlers:
            self._app.listeners.tell(signal, job or attempt.view(str(reason)))
        return attempt.ended("cancel", answer)

    def _note_raised(
        self, event: str, attempt: Attempt, error: BaseException, **more: object
    ) -> str:
        """Note the line of an attempt that has raised; returns the error as one line."""
        text = clip(describe(error))
        run_ms = (monotonic_s() - attempt.started_s) * 1000
        facts = attempt.facts(attempt.marks.attempts + 1) | self._times(attempt, run_ms)
        attempt.lines += ((event, facts | {"error": text} | more),)
        return text

    def _times(self, attempt: Attempt, run_ms: float) -> dict[str, float]:
        wait_ms = max(0.0, self._clock.estimate_ms() - attempt.envelope.e - run_ms)
        return {"run_ms": round(run_ms, 3), "wait_ms": round(wait_ms)}


def _count(attempt: Attempt, error: str, failures: int) -> None:
    """Count the attempt, which has raised, in the marks of its job."""
    marks = attempt.marks
    attempt.marks = msgspec.structs.replace(
        marks, attempts=marks.attempts + 1, failures=failures, error=error
    )

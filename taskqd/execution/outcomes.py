"""How an attempt ends: builds the Outcome and the Answer, logs the event, tells the handlers.

One place for each ending, so that storage, log and signals always say the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskqd.clock import moment_ms, monotonic_s, now_ms
from taskqd.crypto.sealing import result_of
from taskqd.errors import ConfigError, PayloadTooLarge, RetryTask, StorageError
from taskqd.execution.continuations import after_value, callback_done, follows
from taskqd.execution.current_job import CurrentJob
from taskqd.execution.dead_letters import AWAY_MS, SKIPPED_TTL_S, DeadLetters, ended
from taskqd.execution.protocols import AppLike, JobView, Opened
from taskqd.jobs.codec import encode_checked
from taskqd.jobs.exception_text import describe, message_of, trace_of, type_name_of
from taskqd.jobs.job import (
    NO_MARKS,
    Answer,
    Envelope,
    Failure,
    Lease,
    Marks,
    Outcome,
    Reason,
    clip,
    encode_answer,
)
from taskqd.jobs.options import TaskOptions
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import LimitSettings

KILLED = "TaskTimeout: "
"""So begins the error of a job that was killed at its timeout."""
_SIGNAL_OF: dict[str, str] = {Reason.EXPIRED: "expired", Reason.REVOKED: "revoked"}
_NULL = msgspec.Raw(b"null")


class Outcomes(DeadLetters):
    """Builds outcomes for the jobs of one app.  Keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings, log: Log) -> None:
        super().__init__(app, limits, log)
        self._tells_done = log.enabled(events.JOB_DONE)
        self._sealer = app.sealer

    def done(
        self, opened: Opened, job: CurrentJob, value: Any, data: msgspec.Raw, started: float
    ) -> Outcome:
        lease, envelope = opened.lease, opened.envelope
        run_ms = (monotonic_s() - started) * 1000
        ttl_s = self.ttl_s(opened.options)
        answer = Answer(
            "done", lease.token, now_ms(), ttl_s, opened.marks.attempts + 1, round(run_ms, 2), data
        )
        if follows(envelope):
            try:
                callback_done(self._app, envelope, lease.queue)
                lost = after_value(self._app, envelope, answer, value)
            except StorageError:
                return self.come_back(lease, opened.marks, Reason.INTERRUPTED, AWAY_MS)
            if lost is not None and envelope.n:
                self.stage_lost(envelope.n[0], lost)
        if self._tells_done:
            self._log.emit_soon(events.JOB_DONE, facts_of(job) | _times(job, run_ms))
        if "complete" in self._handlers:
            self._app.listeners.tell("complete", job)
        return Outcome(lease.id, lease.queue, lease.token, "ack", encode_answer(answer), ttl_s)

    def encode_result(self, opened: Opened, value: Any) -> msgspec.Raw:
        if value is None or not opened.options.store_result:
            return _NULL
        sealer = self._sealer
        if sealer is None:
            data = encode_checked(value, f"{opened.envelope.t}: result")
        else:
            plain = b"" if sealer.pickles else encode_checked(value, f"{opened.envelope.t}: result")
            data = sealer.seal_value(result_of(opened.lease.id), value, plain)
        if len(data) > self._limits.result_bytes_max:
            raise PayloadTooLarge(
                f"{opened.envelope.t}: the result has {len(data)} bytes; at most"
                f" {self._limits.result_bytes_max} (limits.result_bytes_max)"
            )
        return msgspec.Raw(data)

    def retry_asked(
        self, opened: Opened, job: CurrentJob, error: RetryTask, started: float
    ) -> Outcome:
        """RetryTask costs no failure; without a time of its own it waits `retry_delay`."""
        if error.delay is not None:
            delay_s = max(0.0, float(error.delay))
        elif error.eta is not None:
            now = now_ms()
            try:
                eta_ms = moment_ms(error.eta, now, self._app.zone, absolute=True)
            except ConfigError as problem:
                return self.fail(opened, job, problem, started, Reason.FAILED)
            delay_s = max(0.0, (eta_ms - now) / 1000)
        else:
            delay_s = opened.options.retry_delay
        return self.retry(opened, job, error, started, delay_s, opened.marks.failures)

    def retry(
        self,
        opened: Opened,
        job: CurrentJob,
        error: BaseException,
        started: float,
        delay_s: float,
        failures: int,
    ) -> Outcome:
        run_ms = (monotonic_s() - started) * 1000
        text = clip(describe(error))
        more = {"error": text, "delay_s": round(delay_s, 3)}
        self._log.emit_soon(events.JOB_RETRIED, facts_of(job) | _times(job, run_ms) | more)
        if "retrying" in self._handlers:
            self._app.listeners.tell("retrying", job, error)
        marks = msgspec.structs.replace(
            opened.marks, attempts=opened.marks.attempts + 1, failures=failures, error=text
        )
        lease = opened.lease
        if delay_s > 0:
            view = JobView(lease.id, job.task, lease.queue, marks, "retry", job.headers)
            self._app.listeners.tell("scheduled", view)
        return Outcome(
            lease.id, lease.queue, lease.token, "retry", delay_ms=round(delay_s * 1000), marks=marks
        )

    def fail(
        self, opened: Opened, job: CurrentJob, error: BaseException, started: float, reason: Reason
    ) -> Outcome:
        run_ms = (monotonic_s() - started) * 1000
        text = clip(describe(error))
        trace = trace_of(error)
        more = {"error": text, "traceback": trace}
        self._log.emit_soon(events.JOB_FAILED, facts_of(job) | _times(job, run_ms) | more)
        if reason is Reason.TIMEOUT and "timeout" in self._handlers:
            self._app.listeners.tell("timeout", job, error)
        if "error" in self._handlers:
            self._app.listeners.tell("error", job, error)
        marks = msgspec.structs.replace(
            opened.marks,
            attempts=opened.marks.attempts + 1,
            failures=opened.marks.failures + 1,
            error=text,
        )
        failure = Failure(type_name_of(error), message_of(error), trace)
        return self.bury(opened.lease, opened.envelope, marks, opened.options, reason, failure)

    def cancel(
        self,
        lease: Lease,
        envelope: Envelope,
        marks: Marks,
        options: TaskOptions,
        reason: str,
        job: CurrentJob | None = None,
    ) -> Outcome:
        started = job is not None
        ttl_s = min(self.ttl_s(options), SKIPPED_TTL_S)
        answer = Answer(
            "cancelled", lease.token, now_ms(), ttl_s, marks.attempts + started, reason=str(reason)
        )
        if not self.followed(envelope, answer):
            return self.come_back(lease, marks, Reason.INTERRUPTED, AWAY_MS)
        event = events.JOB_CANCELLED if started else events.JOB_SKIPPED
        self._log.emit_soon(
            event,
            {
                "job_id": lease.id,
                "task": envelope.t,
                "queue": lease.queue,
                "attempt": answer.attempts,
                "reason": reason,
            },
        )
        signal = _SIGNAL_OF.get(reason, "canceled")
        if signal in self._handlers:
            view = job or JobView(
                lease.id, envelope.t, lease.queue, marks, str(reason), envelope.h or {}
            )
            self._app.listeners.tell(signal, view)
        return ended(lease, "cancel", answer, str(reason), NO_MARKS)

    def interrupt(self, lease: Lease, marks: Marks, options: TaskOptions, task: str) -> Outcome:
        marks = msgspec.structs.replace(
            marks, attempts=marks.attempts + 1, interruptions=marks.interruptions + 1
        )
        self._log.emit_soon(
            events.JOB_INTERRUPTED,
            {
                "job_id": lease.id,
                "task": task,
                "queue": lease.queue,
                "attempt": marks.attempts,
                "interruptions": marks.interruptions,
            },
        )
        view = JobView(lease.id, task, lease.queue, marks, Reason.INTERRUPTED)
        # Aside: this may be the thread that requeues all that still runs, before its time is over.
        for signal in ("interrupted", "requeued"):
            self._app.listeners.tell_aside(signal, view)
        return Outcome(
            lease.id, lease.queue, lease.token, "requeue", marks=marks, reason=Reason.INTERRUPTED
        )

    def killed(self, lease: Lease, marks: Marks, how: str) -> Outcome:
        """Count a failure as the master does for whom it kills: who opens the job next decides."""
        marks = msgspec.structs.replace(
            marks, attempts=marks.attempts + 1, failures=marks.failures + 1, error=f"{KILLED}{how}"
        )
        return Outcome(lease.id, lease.queue, lease.token, "requeue", marks=marks, reason="timeout")

    def postpone(self, lease: Lease, task: str, marks: Marks, delay_s: float) -> Outcome:
        """Give a job whose last attempt was killed and counted the time of its retry."""
        self._log.emit_soon(
            events.JOB_RETRIED,
            {
                "job_id": lease.id,
                "task": task,
                "queue": lease.queue,
                "attempt": marks.attempts,
                "error": marks.error.partition("\n")[0],
                "delay_s": round(delay_s, 3),
            },
        )
        self._app.listeners.tell("scheduled", JobView(lease.id, task, lease.queue, marks, "retry"))
        delay_ms = round(delay_s * 1000)
        return Outcome(lease.id, lease.queue, lease.token, "retry", delay_ms=delay_ms, marks=marks)


def facts_of(job: CurrentJob) -> dict[str, Any]:
    return {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}


def _times(job: CurrentJob, run_ms: float) -> dict[str, float]:
    wait_ms = max(0.0, now_ms() - job.enqueued_ms - run_ms)
    return {"run_ms": round(run_ms, 3), "wait_ms": round(wait_ms)}

"""How a job ends that never gets a value: refused, parked, given up; or goes back for a while."""

from __future__ import annotations

import msgspec

from taskqd.clock import now_ms
from taskqd.errors import StorageError
from taskqd.execution.continuations import after_failure, follows
from taskqd.execution.protocols import AppLike, JobView
from taskqd.execution.unpacking import call_options
from taskqd.jobs import parked as parking
from taskqd.jobs.job import (
    NO_MARKS,
    Answer,
    Envelope,
    Failure,
    Lease,
    Marks,
    Outcome,
    Reason,
    Stage,
    clip,
    encode_answer,
)
from taskqd.jobs.options import TaskOptions
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import LimitSettings

AWAY_MS = 1000
STACK_CHARS_MAX = 3000
SKIPPED_TTL_S = 300
"""An outcome without a value (skipped, or `store_result=False`) is kept this long: enough to answer
who waits, and to recognise a repeated enqueue."""


class DeadLetters:
    """Keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings, log: Log) -> None:
        self._app = app
        self._limits = limits
        self._log = log
        self._handlers = app.listeners.handlers

    def refuse(
        self,
        lease: Lease,
        reason: Reason,
        message: str,
        envelope: Envelope | None = None,
        marks: Marks = NO_MARKS,
        stack: str = "",
    ) -> Outcome:
        """Bury a job that must not or cannot run."""
        text = clip(message)
        marks = msgspec.structs.replace(marks, error=text)
        options = None
        if envelope is not None and (task := self._app.registry.get(envelope.t)) is not None:
            options = call_options(task.settings, envelope)
        return self.bury(lease, envelope, marks, options, reason, Failure("", text, stack))

    def park(self, lease: Lease, envelope: Envelope, marks: Marks, message: str) -> Outcome:
        """Bury a job of a task that is not known here, to come back when it is; see `parking`."""
        held, patience_s = follows(envelope), self._limits.unknown_patience_s
        label = parking.label_of(envelope.t, held=held)
        if not label or (held and patience_s <= 0):
            return self.refuse(lease, Reason.UNKNOWN_TASK, message, envelope, marks)
        text = clip(message)
        marks = msgspec.structs.replace(marks, error=text)
        answer = self._dead(lease, marks, None, Reason.UNKNOWN_TASK, Failure("", text))
        answer = msgspec.structs.replace(answer, value=parking.terms(patience_s, held=held))
        return msgspec.structs.replace(self._buried(lease, envelope, marks, answer), parked=label)

    def bury(
        self,
        lease: Lease,
        envelope: Envelope | None,
        marks: Marks,
        options: TaskOptions | None,
        reason: Reason,
        failure: Failure,
    ) -> Outcome:
        answer = self._dead(lease, marks, options, reason, failure)
        if not self.followed(envelope, answer):
            return self.come_back(lease, marks, Reason.INTERRUPTED, AWAY_MS)
        return self._buried(lease, envelope, marks, answer)

    def _dead(
        self,
        lease: Lease,
        marks: Marks,
        options: TaskOptions | None,
        reason: Reason,
        failure: Failure,
    ) -> Answer:
        ttl_s = self.ttl_s(options) if options is not None else self._app.result_ttl
        return Answer(
            "dead", lease.token, now_ms(), ttl_s, marks.attempts, reason=reason, failure=failure
        )

    def _buried(
        self, lease: Lease, envelope: Envelope | None, marks: Marks, answer: Answer
    ) -> Outcome:
        name = envelope.t if envelope is not None else ""
        self._log.emit_soon(
            events.JOB_DEAD,
            {
                "job_id": lease.id,
                "task": name,
                "queue": lease.queue,
                "attempt": marks.attempts,
                "reason": str(answer.reason),
                "error": marks.error,
            },
        )
        if "dead" in self._handlers:
            view = JobView(lease.id, name, lease.queue, marks, str(answer.reason))
            headers = envelope.h if envelope is not None else None
            self._app.listeners.tell("dead", view._replace(headers=headers or {}))
        # The letter outlives its answer, and is to tell what happened as well.
        if answer.failure is not None and answer.failure.traceback:
            stack = answer.failure.traceback[-STACK_CHARS_MAX:]
            marks = msgspec.structs.replace(marks, error=f"{marks.error}\n{stack}")
        return ended(lease, "bury", answer, str(answer.reason), marks)

    def stage_lost(self, stage: Stage, answer: Answer) -> None:
        """Tell of a stage that could not be enqueued: there is no letter of it, only its answer."""
        failure = answer.failure
        self._log.emit_soon(
            events.JOB_DEAD,
            {
                "job_id": stage.id,
                "task": "",
                "queue": stage.queue,
                "attempt": 0,
                "reason": str(answer.reason),
                "error": failure.message if failure else "",
            },
        )
        if "dead" in self._handlers:
            self._app.listeners.tell("dead", JobView(stage.id, "", stage.queue, NO_MARKS))

    def followed(self, envelope: Envelope | None, answer: Answer) -> bool:
        """Set off what follows a job without a value.  False: the storage is away."""
        if envelope is None or not follows(envelope):
            return True
        try:
            after_failure(self._app, envelope, answer)
        except StorageError:
            return False
        return True

    def come_back(self, lease: Lease, marks: Marks, reason: Reason, delay_ms: int) -> Outcome:
        """A gate is closed: back, not before `delay_ms`; no retry and no attempt is counted."""
        self._log.emit(
            events.JOB_REQUEUED,
            job_id=lease.id,
            queue=lease.queue,
            reason=str(reason),
            delay_s=delay_ms / 1000,
        )
        self._app.listeners.tell("requeued", JobView(lease.id, "", lease.queue, marks, reason))
        end = (lease.id, lease.queue, lease.token, "retry")
        return Outcome(*end, delay_ms=delay_ms, marks=marks, reason=reason)

    def ttl_s(self, options: TaskOptions) -> int:
        if not options.store_result:
            return SKIPPED_TTL_S
        return self._app.result_ttl if options.result_ttl is None else options.result_ttl


def ended(lease: Lease, kind: str, answer: Answer, reason: str, marks: Marks) -> Outcome:
    return Outcome(
        lease.id,
        lease.queue,
        lease.token,
        kind,
        encode_answer(answer),
        answer.ttl_s,
        marks=marks,
        reason=reason,
    )

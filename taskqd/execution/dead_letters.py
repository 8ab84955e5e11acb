"""How a job ends that never gets a value: refused, parked, or given up."""

from __future__ import annotations

import msgspec

from taskqd.execution.attempt import Attempt
from taskqd.execution.continuations import after_failure, follows
from taskqd.execution.protocols import AppLike, JobView
from taskqd.jobs import parked
from taskqd.jobs.end import End
from taskqd.jobs.job import NO_MARKS, Answer, Failure, Reason, Stage, clip
from taskqd.logs import events
from taskqd.settings import LimitSettings

_STACK_CHARS_MAX = 3000


class DeadLetters:
    """Builds the ends that give jobs up.  Keeps no state between jobs."""

    def __init__(self, app: AppLike, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits
        self._handlers = app.listeners.handlers

    def refuse(self, attempt: Attempt, reason: Reason, message: str, stack: str = "") -> End:
        """Bury a job that must not or cannot run."""
        text = clip(message)
        attempt.marks = msgspec.structs.replace(attempt.marks, error=text)
        return self.bury(attempt, reason, Failure("", text, stack))

    def park(self, attempt: Attempt, message: str) -> End:
        """Bury a job of a task that is not known here, until it is: see `taskqd.jobs.parked`.

        law: a job is not told dead while it is only parked
        (test_a_job_that_waits_for_new_code_was_told_dead_each_time_an_old_daemon_met_it).
        """
        held, patience_s = follows(attempt.envelope), self._limits.unknown_patience_s
        label = parked.label_of(attempt.envelope.t, held=held)
        if not label or (held and patience_s <= 0):
            return self.refuse(attempt, Reason.UNKNOWN_TASK, message)
        is_told = patience_s <= 0
        text = clip(message)
        attempt.marks = msgspec.structs.replace(attempt.marks, error=text)
        answer = self._answer(attempt, Reason.UNKNOWN_TASK, Failure("", text))
        answer = msgspec.structs.replace(answer, value=parked.terms(patience_s, held=held))
        if is_told:
            return msgspec.structs.replace(self._buried(attempt, answer), parked=parked.told(label))
        attempt.lines += ((events.JOB_PARKED, attempt.facts(attempt.marks.attempts)),)
        return msgspec.structs.replace(self._letter(attempt, answer), parked=label)

    def bury(self, attempt: Attempt, reason: Reason, failure: Failure) -> End:
        """Give the job up; what follows it is to be told first."""
        answer = self._answer(attempt, reason, failure)
        if follows(attempt.envelope):
            attempt.follow_ups = after_failure(self._app, attempt.envelope, answer)
        return self._buried(attempt, answer)

    def _answer(self, attempt: Attempt, reason: Reason, failure: Failure) -> Answer:
        return Answer(
            "dead",
            attempt.lease.token,
            self._app.clock.estimate_ms(),
            attempt.answer_ttl_s(self._app.result_ttl),
            attempt.marks.attempts,
            reason=reason,
            failure=failure,
        )

    def _buried(self, attempt: Attempt, answer: Answer) -> End:
        marks = attempt.marks
        more = {"reason": str(answer.reason), "error": marks.error}
        attempt.lines += ((events.JOB_DEAD, attempt.facts(marks.attempts) | more),)
        if "dead" in self._handlers:
            self._app.listeners.tell("dead", attempt.view(str(answer.reason)))
        return self._letter(attempt, answer)

    def _letter(self, attempt: Attempt, answer: Answer) -> End:
        marks, failure = attempt.marks, answer.failure
        # The letter outlives its answer, and is to tell what happened as well.
        if failure is not None and failure.traceback:
            stack = failure.traceback[-_STACK_CHARS_MAX:]
            marks = msgspec.structs.replace(marks, error=f"{marks.error}\n{stack}")
        return attempt.ended("bury", answer, marks)

    def stage_lost(self, attempt: Attempt, stage: Stage, answer: Answer) -> None:
        """Tell of a stage that cannot be enqueued: there is no letter of it, only its answer."""
        failure = answer.failure
        facts = {
            "job_id": stage.id,
            "task": "",
            "queue": stage.queue,
            "attempt": 0,
            "reason": str(answer.reason),
            "error": failure.message if failure else "",
        }
        attempt.lines += ((events.JOB_DEAD, facts),)
        if "dead" in self._handlers:
            self._app.listeners.tell("dead", JobView(stage.id, "", stage.queue, NO_MARKS))

"""How an attempt ends that does not end its job: the job goes back to its queue, now or later."""

from __future__ import annotations

import msgspec

from taskqd.execution.attempt import Attempt
from taskqd.execution.protocols import AppLike, JobView
from taskqd.jobs.end import End
from taskqd.jobs.job import Reason
from taskqd.logs import events
from taskqd.logs.setup import Log

_AWAY_MS = 1000
_KILLED = "TaskTimeout: "
"""So begins the error of a job that was killed at its timeout."""
_RETRIED = "taskqd.errors."
"""Put before the error of a killed job once its retry has a time, as it is for one that raised."""


class Requeues:
    """Builds the ends that send jobs back.  Keeps no state between jobs."""

    def __init__(self, app: AppLike, log: Log) -> None:
        self._app = app
        self._log = log

    def postpone(self, attempt: Attempt, reason: Reason, delay_ms: int) -> End:
        """A gate is closed: back, not before `delay_ms`; no retry and no attempt is counted."""
        lease = attempt.lease
        self._log.emit(
            events.JOB_REQUEUED,
            job_id=lease.id,
            queue=lease.queue,
            reason=str(reason),
            delay_s=delay_ms / 1000,
        )
        view = JobView(lease.id, "", lease.queue, attempt.marks, reason)
        self._app.listeners.tell("requeued", view)
        return attempt.back("retry", reason, delay_ms)

    def await_storage(self, attempt: Attempt, reason: Reason = Reason.INTERRUPTED) -> End:
        """The storage is away, and has to be asked before the job may start: back for now."""
        return self.postpone(attempt, reason, _AWAY_MS)

    def requeue_interrupted(self, attempt: Attempt) -> End:
        """The job was stopped with its worker: back to the head of its queue."""
        lease, marks = attempt.lease, attempt.marks
        attempt.marks = msgspec.structs.replace(
            marks, attempts=marks.attempts + 1, interruptions=marks.interruptions + 1
        )
        marks = attempt.marks
        facts = attempt.facts(marks.attempts) | {"interruptions": marks.interruptions}
        attempt.lines += ((events.JOB_INTERRUPTED, facts),)
        view = JobView(lease.id, attempt.envelope.t, lease.queue, marks, Reason.INTERRUPTED)
        # Aside: this may be the thread that requeues all that still runs, before its time is over.
        for signal in ("interrupted", "requeued"):
            self._app.listeners.tell_aside(signal, view)
        return attempt.back("requeue", Reason.INTERRUPTED)

    def requeue_killed(self, attempt: Attempt, how: str) -> End:
        """Count a failure, as the master does for a job whose worker it kills at a timeout.

        Whether there is another attempt, and when, is decided by who leases the job next: see
        `delay_retry`.
        """
        marks, error = attempt.marks, f"{_KILLED}{how}"
        attempt.marks = msgspec.structs.replace(
            marks, attempts=marks.attempts + 1, failures=marks.failures + 1, error=error
        )
        return attempt.back("requeue", "timeout")

    def delay_retry(self, attempt: Attempt, delay_s: float) -> End:
        """Give a job whose last attempt was killed, and counted, the time of its retry."""
        lease = attempt.lease
        error = f"{_RETRIED}{attempt.marks.error}"
        attempt.marks = marks = msgspec.structs.replace(attempt.marks, error=error)
        more = {"error": error.partition("\n")[0], "delay_s": round(delay_s, 3)}
        attempt.lines += ((events.JOB_RETRIED, attempt.facts(marks.attempts) | more),)
        view = JobView(lease.id, attempt.envelope.t, lease.queue, marks, "retry")
        self._app.listeners.tell("scheduled", view)
        return attempt.back("retry", delay_ms=round(delay_s * 1000))


def was_killed(error: str) -> bool:
    """Return whether the last attempt, of this error, was killed and has no time for its retry."""
    return error.startswith(_KILLED)


def timed_out(error: str) -> bool:
    """Return whether the last attempt, of this error, was killed at its timeout."""
    return error.removeprefix(_RETRIED).startswith(_KILLED)

"""The states of a job, what can happen to it, and what follows.  Pure.

Interrupted, orphaned, failed and retried are events, not states.  A job that was forgotten (purged, or its
answer's lifetime is over) has no state: its id may be used again.
"""

from __future__ import annotations

from enum import StrEnum

from taskqd.jobs.job import State


class JobEvent(StrEnum):
    """What changes a job's state; "later" is with a delay, "now" without."""

    ENQUEUED_NOW = "enqueued, now"
    ENQUEUED_LATER = "enqueued, later"
    DUE = "due"
    RESCHEDULED_NOW = "rescheduled, now"
    RESCHEDULED_LATER = "rescheduled, later"
    LEASED = "leased"
    RELEASED = "released"
    RECOVERED = "recovered"
    REQUEUED_NOW = "requeued, now"
    REQUEUED_LATER = "requeued, later"
    RETRIED_NOW = "retried, now"
    RETRIED_LATER = "retried, later"
    ACKED = "acked"
    BURIED = "buried"
    CANCELLED = "cancelled"
    REVIVED = "revived"
    PURGED = "purged"


_S, _E = State, JobEvent

# law: a job changes its state by this table and by nothing else, on every storage
# (test_a_job_changes_its_state_as_the_table_says).
TRANSITIONS: dict[tuple[State | None, JobEvent], State | None] = {
    (None, _E.ENQUEUED_NOW): _S.QUEUED,
    (None, _E.ENQUEUED_LATER): _S.SCHEDULED,
    (_S.SCHEDULED, _E.DUE): _S.QUEUED,
    (_S.SCHEDULED, _E.RESCHEDULED_NOW): _S.QUEUED,
    (_S.SCHEDULED, _E.RESCHEDULED_LATER): _S.SCHEDULED,
    (_S.SCHEDULED, _E.CANCELLED): _S.CANCELLED,
    (_S.SCHEDULED, _E.PURGED): None,
    (_S.QUEUED, _E.RESCHEDULED_NOW): _S.QUEUED,
    (_S.QUEUED, _E.RESCHEDULED_LATER): _S.SCHEDULED,
    (_S.QUEUED, _E.LEASED): _S.RUNNING,
    (_S.QUEUED, _E.CANCELLED): _S.CANCELLED,
    (_S.QUEUED, _E.PURGED): None,
    (_S.RUNNING, _E.RELEASED): _S.QUEUED,
    (_S.RUNNING, _E.RECOVERED): _S.QUEUED,
    (_S.RUNNING, _E.REQUEUED_NOW): _S.QUEUED,
    (_S.RUNNING, _E.REQUEUED_LATER): _S.SCHEDULED,
    (_S.RUNNING, _E.RETRIED_NOW): _S.QUEUED,
    (_S.RUNNING, _E.RETRIED_LATER): _S.SCHEDULED,
    (_S.RUNNING, _E.ACKED): _S.DONE,
    (_S.RUNNING, _E.BURIED): _S.DEAD,
    (_S.RUNNING, _E.CANCELLED): _S.CANCELLED,
    (_S.DEAD, _E.REVIVED): _S.QUEUED,
    (_S.DEAD, _E.PURGED): _S.DEAD,  # the letter is gone; the answer says so for its lifetime
}
"""(state, event) -> the state that follows; None: the storage does not know the job."""


class IllegalMove(Exception):
    """An event cannot happen to a job in this state."""


def after(state: State | None, event: JobEvent) -> State | None:
    """Return the state that follows.  Raises IllegalMove."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalMove(f"a job that is {state or 'unknown'} cannot be {event}") from None

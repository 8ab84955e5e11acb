"""The legal transitions of a job.  Pure."""

from __future__ import annotations

from enum import StrEnum

from taskqd.jobs.job import State


class JobEvent(StrEnum):
    """What can happen to a job; interrupted, orphaned, failed and retried are events, not states."""

    DUE = "due"
    LEASED = "leased"
    ACKED = "acked"
    RETRIED = "retried"
    REQUEUED = "requeued"
    BURIED = "buried"
    CANCELLED = "cancelled"
    REVIVED = "revived"


# law: a job changes its state by this table and by nothing else.
TRANSITIONS: dict[tuple[State, JobEvent], State] = {
    (State.SCHEDULED, JobEvent.DUE): State.QUEUED,
    (State.SCHEDULED, JobEvent.CANCELLED): State.CANCELLED,
    (State.QUEUED, JobEvent.LEASED): State.RUNNING,
    (State.QUEUED, JobEvent.CANCELLED): State.CANCELLED,
    (State.RUNNING, JobEvent.ACKED): State.DONE,
    (State.RUNNING, JobEvent.RETRIED): State.SCHEDULED,
    (State.RUNNING, JobEvent.REQUEUED): State.QUEUED,
    (State.RUNNING, JobEvent.BURIED): State.DEAD,
    (State.RUNNING, JobEvent.CANCELLED): State.CANCELLED,
    (State.DEAD, JobEvent.REVIVED): State.QUEUED,
}


def after(state: State, event: JobEvent) -> State | None:
    """Return the state that follows, or None where the event is not legal in `state`."""
    return TRANSITIONS.get((state, event))

"""The legal transitions of a job.  Pure."""

from __future__ import annotations

from enum import StrEnum

from taskqd.jobs.job import State


class Event(StrEnum):
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
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.SCHEDULED, Event.DUE): State.QUEUED,
    (State.SCHEDULED, Event.CANCELLED): State.CANCELLED,
    (State.QUEUED, Event.LEASED): State.RUNNING,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
    (State.RUNNING, Event.ACKED): State.DONE,
    (State.RUNNING, Event.RETRIED): State.SCHEDULED,
    (State.RUNNING, Event.REQUEUED): State.QUEUED,
    (State.RUNNING, Event.BURIED): State.DEAD,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
    (State.DEAD, Event.REVIVED): State.QUEUED,
}


def after(state: State, event: Event) -> State | None:
    """Return the state that follows, or None where the event is not legal in `state`."""
    return TRANSITIONS.get((state, event))

"""Every storage obeys the table of a job's states: each row is tried, and each that is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import Lease, State
from taskqd.jobs.states import TRANSITIONS, JobEvent
from tests.support.rigs.rig import Rig, done, entry, outcome
from tests.support.waiting import wait_until

FAR_MS = 3_600_000
SOON_MS = 50
JOB = "a"
Call = Callable[[Rig, list[Lease]], object]
"""What makes an event happen, with the leases that the worker holds."""


def settled(kind: str, *, delay_ms: int = 0) -> Call:
    state = {"ack": "done", "bury": "dead", "cancel": "cancelled"}.get(kind)

    def settle(rig: Rig, held: list[Lease]) -> object:
        answers = {} if state is None else {"answer": done(held[0].token, state)} if held else {}
        return rig.settle(*(outcome(one, kind, delay_ms=delay_ms, **answers) for one in held))

    return settle


def promoted(rig: Rig, _held: list[Lease]) -> None:
    """Look until what is due soon is due; what is due in an hour stays."""
    rig.storage.promote(["q"])


CALLS: dict[JobEvent, Call] = {
    JobEvent.ENQUEUED_NOW: lambda rig, _: rig.put(JOB, fresh=False),
    JobEvent.ENQUEUED_LATER: lambda rig, _: rig.put(JOB, fresh=False, run_at_ms=now_ms() + FAR_MS),
    JobEvent.DUE: promoted,
    JobEvent.RESCHEDULED_NOW: lambda rig, _: rig.storage.reschedule(JOB, "q", 0),
    JobEvent.RESCHEDULED_LATER: lambda rig, _: rig.storage.reschedule(JOB, "q", now_ms() + FAR_MS),
    JobEvent.LEASED: lambda rig, _: rig.lease(worker="n.2"),
    JobEvent.RELEASED: lambda rig, held: rig.storage.release(
        "n.1", [(one.id, one.queue, one.token) for one in held]
    ),
    JobEvent.RECOVERED: lambda rig, held: rig.storage.recover_worker(
        "n.1", ["q"], running=[one.token for one in held], how="orphaned"
    ),
    JobEvent.REQUEUED_NOW: settled("requeue"),
    JobEvent.REQUEUED_LATER: settled("requeue", delay_ms=FAR_MS),
    JobEvent.RETRIED_NOW: settled("retry"),
    JobEvent.RETRIED_LATER: settled("retry", delay_ms=FAR_MS),
    JobEvent.ACKED: settled("ack"),
    JobEvent.BURIED: settled("bury"),
    JobEvent.REVIVED: lambda rig, _: rig.storage.revive([JOB]),
    JobEvent.PURGED: lambda rig, _: (rig.storage.purge_queue("q"), rig.storage.purge_dead([JOB])),
}


def cancelled(rig: Rig, held: list[Lease]) -> object:
    if held:
        return settled("cancel")(rig, held)
    return rig.storage.cancel(JOB, "q", done(0, "cancelled"), 300)


CALLS[JobEvent.CANCELLED] = cancelled


def bring(rig: Rig, state: State | None) -> list[Lease]:
    """Bring the job into `state`; return the lease of worker n.1, if it has one."""
    if state is None:
        return []
    if state is State.SCHEDULED:
        assert rig.storage.enqueue([entry(JOB, run_at_ms=now_ms() + FAR_MS)]) == [True]
        return []
    rig.put(JOB)
    if state is State.QUEUED:
        return []
    held = rig.lease()
    if state is State.RUNNING:
        return held
    ends = {State.DONE: "ack", State.DEAD: "bury", State.CANCELLED: "cancel"}
    settled(ends[state])(rig, held)
    return held


def state_of(rig: Rig) -> State | None:
    row = rig.storage.job(JOB, "q")
    return None if row is None else row.state


@pytest.mark.parametrize("event", JobEvent, ids=lambda event: event.name.lower())
@pytest.mark.parametrize("state", [None, *State], ids=lambda state: state or "unknown")
def test_a_job_changes_its_state_as_the_table_says(
    rig: Rig, state: State | None, event: JobEvent
) -> None:
    held = bring(rig, state)
    assert state_of(rig) == state
    follows = TRANSITIONS.get((state, event), state)
    CALLS[event](rig, held)
    if event is JobEvent.DUE and state is State.SCHEDULED:
        # Only now: on a loaded machine what is due soon may be due before it is looked at.
        assert rig.storage.reschedule(JOB, "q", now_ms() + SOON_MS)
        wait_until(lambda: (promoted(rig, held), state_of(rig) is follows)[1], what="a promotion")
    assert state_of(rig) == follows

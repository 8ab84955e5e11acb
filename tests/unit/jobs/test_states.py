"""The table of a job's states, as a graph."""

from __future__ import annotations

import pytest

from taskqd.jobs.job import State
from taskqd.jobs.states import TRANSITIONS, IllegalMove, JobEvent, after


def test_each_state_can_be_reached_and_each_event_can_happen() -> None:
    assert {*TRANSITIONS.values()} == {*State, None}
    assert {event for _, event in TRANSITIONS} == {*JobEvent}


@pytest.mark.parametrize("state", [State.DONE, State.CANCELLED])
@pytest.mark.parametrize("event", JobEvent)
def test_nothing_happens_to_a_job_that_has_ended(state: State, event: JobEvent) -> None:
    with pytest.raises(IllegalMove, match=f"a job that is {state} cannot be {event}"):
        after(state, event)


def test_a_dead_job_is_left_by_revival_and_purge_alone() -> None:
    ways = {event for state, event in TRANSITIONS if state is State.DEAD}
    assert ways == {JobEvent.REVIVED, JobEvent.PURGED}


def test_only_a_lease_makes_a_job_run() -> None:
    ways = {pair for pair, follows in TRANSITIONS.items() if follows is State.RUNNING}
    assert ways == {(State.QUEUED, JobEvent.LEASED)}

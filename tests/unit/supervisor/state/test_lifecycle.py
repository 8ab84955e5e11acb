"""The table of states and events of a child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.supervisor.state.lifecycle import TRANSITIONS, ChildEvent, ChildState, next_state

ORDER = list(ChildState)


@pytest.mark.parametrize("state", ChildState)
@pytest.mark.parametrize("event", ChildEvent)
def test_every_pair_of_state_and_event_has_a_next_state(
    state: ChildState, event: ChildEvent
) -> None:
    assert isinstance(next_state(state, event), ChildState)


def test_the_table_names_every_state_and_only_changes() -> None:
    assert set(TRANSITIONS) == set(ChildState)
    for state, row in TRANSITIONS.items():
        assert all(after is not state for after in row.values()), state


def test_death_comes_from_everywhere_and_nothing_comes_after_it() -> None:
    for state in ChildState:
        assert next_state(state, ChildEvent.DIED) is ChildState.DEAD
    for event in ChildEvent:
        assert next_state(ChildState.DEAD, event) is ChildState.DEAD


@given(st.lists(st.sampled_from(ChildEvent)))
def test_a_life_never_goes_back(events: list[ChildEvent]) -> None:
    """Whatever comes in whatever order, doubled or late, no child becomes younger."""
    state = ChildState.SPAWNING
    for event in events:
        after = next_state(state, event)
        assert ORDER.index(after) >= ORDER.index(state)
        state = after


def test_a_condemned_child_stays_condemned_until_it_is_dead() -> None:
    for event in set(ChildEvent) - {ChildEvent.DIED, ChildEvent.FORK_FAILED}:
        assert next_state(ChildState.DYING, event) is ChildState.DYING

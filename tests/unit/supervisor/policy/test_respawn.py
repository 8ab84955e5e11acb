"""When the post of a dead child is filled again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskqd.supervisor.policy import respawn


def test_the_first_crash_of_a_worker_that_served_is_answered_at_once() -> None:
    failures = respawn.failures_after(0, proven=False)
    assert respawn.delay_s(failures, 1.0, served=True) == 0


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_delay_is_between_nothing_and_half_a_minute(failures: int, chance: float) -> None:
    for served in (True, False):
        assert 0 <= respawn.delay_s(failures, chance, served=served) <= respawn.LONGEST_S


def test_a_child_that_never_served_waits_at_least_the_shortest_time() -> None:
    assert respawn.delay_s(1, 0.0, served=False) == respawn.FIRST_S


def test_delays_double_up_to_the_longest() -> None:
    longest = [respawn.delay_s(n, 1.0, served=False) for n in range(1, 12)]
    assert longest[:4] == [0.1, 0.2, 0.4, 0.8]
    assert longest[-1] == respawn.LONGEST_S


def test_kills_of_workers_that_served_never_add_up() -> None:
    failures = 0
    for _ in range(20):
        failures = respawn.failures_after(failures, proven=respawn.proven(1, 0.2))
        assert respawn.delay_s(failures, 1.0, served=True) == 0
    assert respawn.proven(0, respawn.PROVEN_S)
    assert not respawn.proven(0, respawn.PROVEN_S - 0.1)
    assert not respawn.proven(0, None)
    assert respawn.failures_after(7, proven=False) == 8

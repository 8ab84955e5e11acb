"""The timeline of a stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.supervisor.state import timeline

NOW = 500.0


GRACES = st.floats(0.0, 100_000.0)


@pytest.mark.parametrize(
    ("grace_s", "drain_s"),
    [(25, 20), (60, 55), (10, 5), (6, 3), (1, 0.5), (0, 0)],
)
def test_jobs_are_left_alone_until_five_seconds_before_the_end_or_half_of_a_short_grace(
    grace_s: float,
    drain_s: float,
) -> None:
    assert timeline.drain_s(grace_s) == drain_s


@given(GRACES)
def test_the_steps_of_a_stop_follow_each_other_within_the_grace(grace_s: float) -> None:
    line = timeline.begin(NOW, grace_s)
    assert list(line) == sorted(line)
    assert line.end_s <= NOW + max(grace_s, timeline.LEAST_TAIL_S)


@given(GRACES, st.floats(0.0, 200_000.0))
def test_hurrying_never_makes_a_stop_longer(grace_s: float, after_s: float) -> None:
    line = timeline.begin(NOW, grace_s)
    now_s = NOW + after_s
    for sooner in (
        timeline.hasten(line, now_s),
        timeline.cut(line, now_s),
        timeline.cut(timeline.hasten(line, now_s), now_s),
    ):
        assert all(new <= old + 1e-6 for new, old in zip(sooner, line, strict=True))
        assert list(sooner) == sorted(sooner)


def test_a_hastened_stop_keeps_its_tail() -> None:
    line = timeline.hasten(timeline.begin(NOW, 600), NOW + 10)
    assert line.interrupt_s == NOW + 10
    assert line.end_s == pytest.approx(NOW + 10 + 0.92 * 5)


def test_a_cut_takes_back_before_it_kills() -> None:
    line = timeline.cut(timeline.begin(NOW, 600), NOW + 10)
    assert line.recover_s == NOW + 10 < line.kill_s < line.retire_s < line.end_s <= NOW + 13

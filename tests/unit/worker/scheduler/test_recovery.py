"""When the scheduler looks for silent nodes."""

from __future__ import annotations

import pytest

from taskqd.worker.scheduler.recovery import next_look_s

LEASE_S = 10.0


def _middle(least: float, most: float) -> float:
    return (least + most) / 2


@pytest.mark.parametrize(
    ("first_end_s", "look_s"),
    [(None, 2.5), (9.0, 2.5), (2.0, 2.02), (0.0, 0.25), (-30.0, 0.25)],
)
def test_the_next_look_is_at_the_end_of_a_lease_and_often_once_it_has_ended(
    first_end_s: float | None, look_s: float
) -> None:
    assert next_look_s(LEASE_S, first_end_s, _middle) == pytest.approx(look_s)


def test_looks_without_a_cause_are_spread() -> None:
    assert next_look_s(LEASE_S, None, min) < next_look_s(LEASE_S, None, max)

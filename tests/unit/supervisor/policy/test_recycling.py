"""Which worker has served long enough, or serves no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.supervisor.policy import recycling, reload
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.policy.recycling import overdue
from taskqd.supervisor.state import actions, observation
from taskqd.supervisor.state.fleet import Fleet, Post, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.limits import WorkerLimits
from taskqd.supervisor.state.observation import Observation
from tests.support.rigs.fleets import NOW, child_of, fleet_of, reloading


def served(jobs: int) -> Observation:
    return Observation(0.5, [], (jobs, 0, 0, 0))


def hearing(*ages_s: float | None, scheduler_s: float | None = None) -> Fleet:
    """Return a fleet whose workers heard from the storage so long ago."""
    fleet = fleet_of(len(ages_s))
    for child, age_s in zip(fleet.living_workers(), ages_s, strict=True):
        fleet.observations[child.worker_id].heard_age_s = age_s
        fleet.observations[child.worker_id].steady_s = 500.0
    scheduler = fleet.scheduler.child
    assert scheduler is not None
    fleet.observations[scheduler.worker_id].heard_age_s = scheduler_s
    fleet.observations[scheduler.worker_id].steady_s = 500.0
    return fleet


def test_an_import_that_hangs_is_given_up_in_time() -> None:
    fleet = reloading()
    fleet.zygotes[1].state = ZygoteState.LOADING
    assert plan(fleet, NOW + reload.IMPORT_S - 0.1) == []
    (abort,) = plan(fleet, NOW + reload.IMPORT_S)
    assert isinstance(abort, actions.AbortReload)
    assert abort.step == "import"


def test_a_worker_is_recycled_at_each_of_its_limits() -> None:
    child = child_of(Post(0, "worker"))
    child.load.pss_bytes = 2000
    assert overdue(child, served(9), WorkerLimits(jobs=10), NOW) == ""
    assert overdue(child, served(10), WorkerLimits(jobs=10), NOW) == "max_jobs: 10 jobs"
    assert overdue(child, served(0), WorkerLimits(age_s=41.0), NOW) == ""
    assert overdue(child, served(0), WorkerLimits(age_s=40.0), NOW) == "max_age_s: 40 s"
    assert overdue(child, served(0), WorkerLimits(memory_bytes=2001), NOW) == ""
    assert overdue(child, served(0), WorkerLimits(memory_bytes=2000), NOW).startswith("max_memory")


def test_a_worker_over_its_memory_from_the_start_is_given_some_time() -> None:
    child = child_of(Post(0, "worker"))
    child.load.pss_bytes, child.ready_s = 2000, NOW
    assert overdue(child, served(0), WorkerLimits(memory_bytes=1), NOW + 9) == ""
    assert overdue(child, served(0), WorkerLimits(memory_bytes=1), NOW + 10)


@given(st.floats(0.0, 1.0))
def test_the_jitter_is_a_tenth_to_either_side(chance: float) -> None:
    assert 0.9 <= recycling.jitter(chance) <= 1.1


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (9, 1), (20, 2)])
def test_no_more_than_one_in_ten_is_recycled_at_once(workers: int, at_once: int) -> None:
    fleet = fleet_of(workers, limits=WorkerLimits(age_s=1.0))
    for _ in range(at_once):
        (replace,) = plan(fleet, NOW)
        assert isinstance(replace, actions.Replace)
        successor = fleet.workers[replace.new]
        successor.active, successor.replaces = True, replace.old
        successor.spawn_at_s = NOW + 99
    assert plan(fleet, NOW) == []


def test_a_worker_that_hears_nothing_while_another_does_is_replaced() -> None:
    assert plan(hearing(29.9, 1.0), NOW) == []
    (replace,) = plan(hearing(31.0, 1.0), NOW)
    assert isinstance(replace, actions.Replace)
    assert (replace.old, replace.reason.startswith("deaf")) == (0, True)


@pytest.mark.parametrize(
    "ages_s",
    [(31.0, 31.0), (31.0, 31.0, 500.0), (31.0, None), (31.0, observation.UNRESPONSIVE_S / 2)],
)
def test_a_storage_that_answers_nobody_costs_no_worker(ages_s: tuple[float | None, ...]) -> None:
    assert plan(hearing(*ages_s, scheduler_s=1.0), NOW) == []


def test_after_an_outage_the_last_to_be_answered_was_taken_for_unresponsive() -> None:
    fleet = hearing(31.0, 1.0)
    fleet.observations[fleet.living_workers()[1].worker_id].steady_s = 28.9
    assert plan(fleet, NOW) == []
    fleet.observations[fleet.living_workers()[1].worker_id].steady_s = 29.0
    assert plan(fleet, NOW)


def test_for_a_worker_alone_the_scheduler_is_the_witness() -> None:
    assert plan(hearing(31.0, scheduler_s=31.0), NOW) == []
    (replace,) = plan(hearing(31.0, scheduler_s=2.0), NOW)
    assert isinstance(replace, actions.Replace)


@pytest.mark.parametrize(
    "change", [{"quiet": True}, {"asks_s": NOW - 29}, {"state": ChildState.DRAINING}]
)
def test_a_worker_that_need_not_ask_is_not_unresponsive(change: dict[str, Any]) -> None:
    fleet = hearing(500.0, 1.0)
    child = fleet.living_workers()[0]
    for name, value in change.items():
        setattr(child, name, value)
    assert recycling.unresponsive(fleet, child, NOW) == ""


def test_a_worker_without_a_beat_is_judged_by_that_alone() -> None:
    fleet = hearing(31.0, 1.0)
    fleet.observations[fleet.living_workers()[0].worker_id].beat_age_s = recycling.BEATS_S
    assert recycling.unresponsive(fleet, fleet.living_workers()[0], NOW) == ""

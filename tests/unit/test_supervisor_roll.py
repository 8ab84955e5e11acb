"""Reload and recycling as decisions: what follows for every step, and how each is given up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc.messages import Serve
from taskqd.settings import Settings, WorkerSettings
from taskqd.supervisor.policy import recycling, reload
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.policy.recycling import overdue
from taskqd.supervisor.state import actions, observation, timeline
from taskqd.supervisor.state.fleet import Fleet, Observation, Post, Stop, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.limits import WorkerLimits
from taskqd.supervisor.state.reload import Reload, ReloadStep, fixed_changes
from tests.support.rigs.fleets import NOW, child_of, fleet_of


def reloading(step: ReloadStep = ReloadStep.IMPORT, **changes: Any) -> Fleet:
    """Return a fleet whose reload has come to `step`; from the trial on, with a canary at post 2."""
    fleet = fleet_of(generation=2)
    fleet.zygotes.append(Zygote(2, 101, NOW, ZygoteState.LOADED))
    fleet.reload = Reload(1, "SIGHUP", 2, NOW, step, since_s=NOW)
    if step is not ReloadStep.IMPORT:
        post = fleet.workers[2]
        post.active, post.replaces, post.reason = True, 0, "reload"
        post.child = child_of(post, generation=2)
        post.child.ready_s = NOW
        fleet.reload.canary = 2
    for name, value in changes.items():
        setattr(fleet.reload, name, value)
    return fleet


def rolling() -> Fleet:
    """Return a fleet in which the canary has been promoted and has taken over."""
    fleet = reloading(ReloadStep.ROLL, canary=None, old=frozenset({1}), before=Settings())
    old, new = fleet.workers[0], fleet.workers[2]
    old.active, old.child, new.replaces = False, None, None
    return fleet


# -- reload ----------------------------------------------------------------------------------------


def test_a_reload_waits_until_the_daemon_has_served() -> None:
    assert plan(fleet_of(reload_asked=["SIGHUP"]), NOW) == [actions.BeginReload()]
    fleet = fleet_of(reload_asked=["SIGHUP"], served=False)
    assert actions.BeginReload() not in plan(fleet, NOW)


def test_during_a_trial_workers_are_still_forked_from_the_old_generation() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    zygote = fleet.zygote()
    assert zygote is not None
    assert zygote.generation == 1
    fleet.workers[1].child = None
    assert actions.SpawnChild(1) in plan(fleet, NOW)


def test_an_old_zygote_that_dies_during_a_trial_is_replaced() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    fleet.zygotes.pop(0)
    assert actions.StartZygote(3) in plan(fleet, NOW)


def test_a_loaded_generation_sends_one_canary() -> None:
    assert plan(reloading(), NOW) == [actions.SpawnCanary(2)]


def test_an_import_that_hangs_is_given_up_in_time() -> None:
    fleet = reloading()
    fleet.zygotes[1].state = ZygoteState.LOADING
    assert plan(fleet, NOW + reload.IMPORT_S - 0.1) == []
    (abort,) = plan(fleet, NOW + reload.IMPORT_S)
    assert isinstance(abort, actions.AbortReload)
    assert abort.step == "import"


@pytest.mark.parametrize("step", [ReloadStep.IMPORT, ReloadStep.TRIAL])
def test_a_reload_that_has_failed_is_aborted_with_its_first_reason(step: ReloadStep) -> None:
    fleet = reloading(step)
    assert fleet.reload is not None
    fleet.reload.fail("boot", "first")
    fleet.reload.fail("trial", "second")
    assert actions.AbortReload("boot", "first") in plan(fleet, NOW)


def test_a_canary_is_not_replaced_when_it_dies() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    fleet.workers[2].child = None
    assert plan(fleet, NOW) == [actions.AbortReload("boot", "the canary could not be spawned")]


def test_a_canary_takes_over_only_after_its_trial() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    assert plan(fleet, NOW + reload.TRIAL_S - 0.1) == []
    assert plan(fleet, NOW + reload.TRIAL_S) == [actions.Promote()]


def test_a_generation_whose_zygote_has_gone_is_not_promoted() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    fleet.zygotes.pop()
    (abort,) = plan(fleet, NOW + reload.TRIAL_S)
    assert isinstance(abort, actions.AbortReload)


def test_a_canary_that_never_serves_is_given_up() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    canary = fleet.workers[2].child
    assert canary is not None
    canary.state, canary.ready_s, canary.storage_error = ChildState.BOOTING, None, "refused"
    found = [a for a in plan(fleet, NOW + 75) if isinstance(a, actions.AbortReload)]
    assert [(a.step, "refused" in a.error) for a in found] == [("boot", True)]


def test_workers_roll_one_by_one_and_the_scheduler_is_last() -> None:
    fleet = rolling()
    assert plan(fleet, NOW) == [actions.Replace(1, 0, "reload")]
    successor = fleet.workers[0]
    successor.active, successor.replaces = True, 1
    assert plan(fleet, NOW) == [actions.SpawnChild(0)]
    successor.child = child_of(successor, generation=2)
    assert plan(fleet, NOW) == [actions.TakeOver(0)]
    successor.replaces, fleet.workers[1].active, fleet.workers[1].child = None, False, None
    assert plan(fleet, NOW) == [actions.ReplaceScheduler()]
    fleet.scheduler.child = child_of(fleet.scheduler, generation=2)
    assert plan(fleet, NOW) == [actions.RetireZygote(1)]
    fleet.zygotes.pop(0)
    assert plan(fleet, NOW) == [actions.EndReload()]


def test_workers_of_a_zygote_that_came_later_are_not_rolled_again() -> None:
    fleet = rolling()
    fleet.workers[1].child = child_of(fleet.workers[1], generation=3)
    assert plan(fleet, NOW) == [actions.ReplaceScheduler()]


def broken_roll(step: str = "boot", deaths: int = 2) -> Fleet:
    fleet = rolling()
    assert fleet.reload is not None
    for _ in range(deaths):
        fleet.reload.died(step, "worker 1 of the new generation killed by SIGSEGV")
    return fleet


@pytest.mark.parametrize(("step", "deaths"), [("boot", 2), ("roll", 3)])
def test_a_generation_that_dies_while_it_takes_over_is_rolled_back(step: str, deaths: int) -> None:
    assert actions.RollBack() not in plan(broken_roll(step, deaths - 1), NOW)
    assert plan(broken_roll(step, deaths), NOW) == [actions.RollBack()]


def test_a_zygote_that_dies_while_its_generation_takes_over_is_a_reason_to_go_back() -> None:
    fleet = rolling()
    fleet.zygotes.pop()
    assert plan(fleet, NOW) == [actions.RollBack()]


def test_without_the_old_zygote_the_new_generation_stays_and_the_reason_is_told() -> None:
    fleet = broken_roll()
    fleet.zygotes.pop(0)
    (abort,) = plan(fleet, NOW)
    assert isinstance(abort, actions.AbortReload)
    assert "cannot be taken back" in abort.error


def test_on_the_way_back_workers_come_from_the_old_zygote_and_the_new_ones_go() -> None:
    fleet = broken_roll()
    assert fleet.reload is not None
    fleet.reload.step, fleet.reload.old = ReloadStep.BACK, frozenset({2})
    fleet.zygotes[1].state, fleet.zygotes[1].since_s = ZygoteState.LEAVING, NOW
    assert plan(fleet, NOW) == [actions.Replace(2, 0, "reload")]
    zygote = fleet.zygote()
    assert zygote is not None
    assert zygote.generation == 1
    fleet.workers[2].child = child_of(fleet.workers[2], generation=1)
    fleet.zygotes.pop()
    assert plan(fleet, NOW) == [actions.EndReload()]


def test_a_death_during_the_trial_is_the_canarys_business() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    assert fleet.reload is not None
    for _ in range(9):
        fleet.reload.died("boot", "x")
    assert not fleet.reload.failed_at


def test_a_roll_waits_for_a_free_row() -> None:
    fleet = rolling()
    for post in fleet.workers:
        if post.child is None:
            post.child = child_of(post, ChildState.LEAVING)
            post.child.since_s = NOW
    assert plan(fleet, NOW) == []


@pytest.mark.parametrize("step", list(ReloadStep))
def test_a_stop_ends_every_step(step: ReloadStep) -> None:
    fleet = reloading(step)
    fleet.stop = Stop(timeline.begin(NOW, 25.0), "SIGTERM")
    assert list(reload.renew(fleet, NOW + 100)) == []


def test_the_scheduler_serves_the_queues_of_both_generations() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    canary = fleet.workers[2].child
    assert canary is not None
    canary.queues = ("default", "fresh")
    (tell,) = plan(fleet, NOW)
    assert isinstance(tell, actions.Tell)
    assert tell.message == Serve(("default", "fresh"))


def test_what_only_a_restart_can_change_is_named() -> None:
    old = Settings(workers=WorkerSettings(count=2))
    changed = WorkerSettings(count=3, type="thread", memory_limit_bytes=2**30)
    new = msgspec.structs.replace(old, workers=changed)
    keys = ["workers.type", "workers.memory_limit", "workers.concurrency"]
    assert fixed_changes(old, new) == keys
    same = msgspec.structs.replace(old, workers=WorkerSettings(count=3, max_jobs=9))
    assert fixed_changes(old, same) == []


# -- recycling -------------------------------------------------------------------------------------


def served(jobs: int) -> Observation:
    return Observation(0.5, [], (jobs, 0, 0, 0))


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


def test_nobody_is_recycled_during_a_reload() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    fleet.limits = WorkerLimits(age_s=1.0)
    assert plan(fleet, NOW) == []


# -- deaf workers ----------------------------------------------------------------------------------


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


def test_after_an_outage_the_last_to_be_answered_was_taken_for_deaf() -> None:
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
def test_a_worker_that_need_not_ask_is_not_deaf(change: dict[str, Any]) -> None:
    fleet = hearing(500.0, 1.0)
    child = fleet.living_workers()[0]
    for name, value in change.items():
        setattr(child, name, value)
    assert recycling.unresponsive(fleet, child, NOW) == ""


def test_a_worker_without_a_beat_is_judged_by_that_alone() -> None:
    fleet = hearing(31.0, 1.0)
    fleet.observations[fleet.living_workers()[0].worker_id].beat_age_s = recycling.BEATS_S
    assert recycling.unresponsive(fleet, fleet.living_workers()[0], NOW) == ""

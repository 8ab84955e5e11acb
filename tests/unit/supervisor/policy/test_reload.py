"""How a new generation takes over, step by step."""

from __future__ import annotations

import pytest

from taskqd.ipc.messages import Serve
from taskqd.settings import Settings
from taskqd.supervisor.policy import reload
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions, timeline
from taskqd.supervisor.state.fleet import Fleet, Stop, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.limits import WorkerLimits
from taskqd.supervisor.state.reload import ReloadStep
from tests.support.rigs.fleets import NOW, child_of, fleet_of, reloading


def rolling() -> Fleet:
    """Return a fleet in which the canary has been promoted and has taken over."""
    fleet = reloading(ReloadStep.ROLL, canary=None, old=frozenset({1}), before=Settings())
    old, new = fleet.workers[0], fleet.workers[2]
    old.active, old.child, new.replaces = False, None, None
    return fleet


def broken_roll(step: str = "boot", deaths: int = 2) -> Fleet:
    fleet = rolling()
    assert fleet.reload is not None
    for _ in range(deaths):
        fleet.reload.died(step, "worker 1 of the new generation killed by SIGSEGV")
    return fleet


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


def test_nobody_is_recycled_during_a_reload() -> None:
    fleet = reloading(ReloadStep.TRIAL)
    fleet.limits = WorkerLimits(age_s=1.0)
    assert plan(fleet, NOW) == []

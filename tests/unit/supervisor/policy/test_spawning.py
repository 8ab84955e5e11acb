"""Which zygotes and children are started."""

from __future__ import annotations

from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions
from taskqd.supervisor.state.lifecycle import ChildState
from tests.support.rigs.fleets import NOW, child_of, fleet_of


def test_without_a_zygote_one_is_started_of_the_next_generation() -> None:
    assert plan(fleet_of(zygotes=[]), NOW) == [actions.StartZygote(2)]


def test_a_zygote_waits_for_its_back_off() -> None:
    assert plan(fleet_of(zygotes=[], zygote_at_s=NOW + 1), NOW) == []


def test_before_anything_has_served_workers_wait_for_the_scheduler() -> None:
    fleet = fleet_of(workers=2, served=False)
    fleet.scheduler.child = fleet.workers[0].child = fleet.workers[1].child = None
    assert plan(fleet, NOW) == [actions.SpawnChild(fleet.scheduler.number)]
    fleet.scheduler.child = child_of(fleet.scheduler)
    assert plan(fleet, NOW) == [actions.SpawnChild(0), actions.SpawnChild(1)]


def test_later_a_worker_does_not_wait_for_the_scheduler() -> None:
    fleet = fleet_of()
    fleet.scheduler.child = fleet.workers[0].child = None
    assert plan(fleet, NOW) == [actions.SpawnChild(fleet.scheduler.number), actions.SpawnChild(0)]


def test_a_vacant_post_waits_for_its_back_off() -> None:
    fleet = fleet_of()
    fleet.workers[0].child, fleet.workers[0].spawn_at_s = None, NOW + 0.1
    assert plan(fleet, NOW) == []
    assert plan(fleet, NOW + 0.1) == [actions.SpawnChild(0)]


def test_a_zygote_that_forks_nothing_is_killed() -> None:
    fleet = fleet_of()
    fleet.workers[0].child = child_of(
        fleet.workers[0],
        ChildState.SPAWNING,
        pid=0,
        spawned_s=NOW - 15,
        since_s=NOW - 15,
    )
    assert plan(fleet, NOW) == [actions.KillZygote(1, "forked nothing for 15 s")]


def test_a_zygote_whose_channel_broke_is_killed_a_moment_later() -> None:
    fleet = fleet_of()
    fleet.zygotes[0].hung_up_s = NOW
    assert plan(fleet, NOW) == []
    assert plan(fleet, NOW + 1) == [actions.KillZygote(1, "its channel is broken")]

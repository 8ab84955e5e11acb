"""Which child is killed, and why."""

from __future__ import annotations

from taskqd.ipc.board import SlotView
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions
from taskqd.supervisor.state.lifecycle import ChildState
from tests.support.rigs.fleets import (
    NOW,
    child_of,
    condemned,
    fleet_of,
    scheduler_id,
    seen_of,
    worker,
)


def test_a_worker_without_a_beat_is_hung() -> None:
    fleet = fleet_of()
    fleet.observations["n.0"] = seen_of(beat_age_s=10.1)
    action = condemned(fleet)
    assert action.worker_id == "n.0"
    assert [signal for _, signal in action.ladder] == ["SIGUSR1", "SIGTERM", "SIGKILL"]


def test_a_scheduler_without_a_beat_is_replaced_within_three_seconds() -> None:
    fleet = fleet_of()
    fleet.observations[scheduler_id(fleet)] = seen_of(beat_age_s=2.6)
    action = condemned(fleet)
    assert action.worker_id == scheduler_id(fleet)
    assert 2.6 + action.ladder[-1][0] < 3.0


def test_a_child_that_has_lost_its_storage_may_be_slower() -> None:
    fleet = fleet_of()
    worker(fleet).storage_error = "connection refused"
    fleet.observations["n.0"] = seen_of(beat_age_s=20.0)
    assert plan(fleet, NOW) == []


def test_a_worker_that_computes_is_not_hung_for_long() -> None:
    fleet = fleet_of()
    worker(fleet).load.computes = True
    fleet.observations["n.0"] = seen_of(beat_age_s=60.0)
    assert plan(fleet, NOW) == []
    fleet.observations["n.0"] = seen_of(beat_age_s=121.0)
    assert condemned(fleet).reason.startswith("hung")


def test_a_child_without_any_beat_yet_is_not_judged() -> None:
    fleet = fleet_of()
    fleet.observations["n.0"] = seen_of(beat_age_s=None)
    assert plan(fleet, NOW) == []


def test_a_job_past_its_deadline_costs_a_worker_of_one_slot_only() -> None:
    overdue = SlotView(0, 7, 0, 1, "job-7", "shop.slow")
    fleet = fleet_of()
    fleet.observations["n.0"] = seen_of(overdue=overdue)
    assert condemned(fleet).reason == "timeout of shop.slow"
    assert condemned(fleet).late == (overdue,)


def test_a_child_that_never_gets_ready_is_killed_unless_it_waits_for_its_storage() -> None:
    fleet = fleet_of()
    fleet.workers[0].child = child_of(fleet.workers[0], ChildState.BOOTING, since_s=NOW - 60)
    assert "not ready" in condemned(fleet).reason
    worker(fleet).storage_error = "connection refused"
    assert plan(fleet, NOW) == []


def test_a_child_that_does_not_exit_after_its_last_word_is_killed() -> None:
    fleet = fleet_of()
    worker(fleet).state, worker(fleet).since_s = ChildState.LEAVING, NOW
    assert plan(fleet, NOW + 4.9) == []
    assert "last word" in condemned(fleet, NOW + 5).reason


def test_a_child_that_nobody_ever_saw_is_given_up() -> None:
    fleet = fleet_of()
    fleet.workers[0].child = child_of(
        fleet.workers[0],
        ChildState.SPAWNING,
        pid=0,
        spawned_s=NOW,
        hung_up_s=NOW,
    )
    assert plan(fleet, NOW + 1) == [actions.DeclareDead("n.0")]


def test_a_ladder_is_climbed_one_step_at_a_time() -> None:
    fleet = fleet_of()
    child = worker(fleet)
    child.state, child.since_s = ChildState.DYING, NOW
    child.kill.ladder = ((0.0, "SIGUSR1"), (0.3, "SIGTERM"), (1.3, "SIGKILL"))
    assert plan(fleet, NOW) == [actions.SendSignal("n.0", "SIGUSR1")]
    child.kill.taken = 1
    assert plan(fleet, NOW + 0.2) == []
    assert plan(fleet, NOW + 0.3) == [actions.SendSignal("n.0", "SIGTERM")]
    child.kill.taken = 3
    assert plan(fleet, NOW + 60) == []

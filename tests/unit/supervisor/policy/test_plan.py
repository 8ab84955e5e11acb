"""The plan as a whole: what a fleet that serves needs, and when the master wakes."""

from __future__ import annotations

import pytest

from taskqd.ipc.messages import Quiet, RecoverWorker, Resume
from taskqd.supervisor.policy.plan import BUSY_TICK_S, TICK_S, plan, wake_in_s
from taskqd.supervisor.state import actions
from taskqd.supervisor.state.fleet import PendingRecovery
from taskqd.supervisor.state.lifecycle import ChildState
from tests.support.rigs.fleets import NOW, child_of, fleet_of, scheduler_id, stopping, worker


def test_a_fleet_that_serves_needs_nothing_and_lets_the_master_sleep() -> None:
    fleet = fleet_of()
    assert plan(fleet, NOW) == []
    assert wake_in_s(fleet, NOW) == TICK_S >= 1.0


def test_a_drain_is_watched_more_closely() -> None:
    fleet = stopping(fleet_of())
    assert wake_in_s(fleet, NOW) == BUSY_TICK_S


def test_the_master_wakes_for_a_respawn() -> None:
    fleet = fleet_of()
    fleet.workers[0].child, fleet.workers[0].spawn_at_s = None, NOW + 0.25
    assert wake_in_s(fleet, NOW) == pytest.approx(0.25)


def test_a_recovery_is_sent_to_each_scheduler_once() -> None:
    fleet = fleet_of()
    fleet.pending_recoveries["n.9"] = PendingRecovery(RecoverWorker("n.9", (7,), "orphaned"))
    assert plan(fleet, NOW) == [actions.SendRecovery("n.9")]
    fleet.pending_recoveries["n.9"].sent_to = scheduler_id(fleet)
    assert plan(fleet, NOW) == []
    assert fleet.scheduler.child is not None
    fleet.scheduler.child.worker_id = "n.77"
    assert actions.SendRecovery("n.9") in plan(fleet, NOW)


def test_a_recovery_waits_for_a_scheduler_that_is_ready() -> None:
    fleet = fleet_of()
    fleet.pending_recoveries["n.9"] = PendingRecovery(RecoverWorker("n.9", (), "orphaned"))
    fleet.scheduler.child = child_of(fleet.scheduler, ChildState.BOOTING, since_s=NOW)
    assert plan(fleet, NOW) == []


def test_quiet_and_resume_are_told_to_those_who_do_not_know() -> None:
    fleet = fleet_of(quiet=True)
    worker(fleet, 1).quiet = True
    assert plan(fleet, NOW) == [actions.Tell("n.0", Quiet())]
    worker(fleet, 0).quiet = True
    assert plan(fleet, NOW) == []
    fleet.quiet = False
    assert plan(fleet, NOW) == [actions.Tell("n.0", Resume()), actions.Tell("n.1", Resume())]

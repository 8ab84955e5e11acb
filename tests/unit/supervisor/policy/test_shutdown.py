"""How a worker drains, and how the daemon ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import RecoverWorker
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions, timeline
from taskqd.supervisor.state.fleet import Fleet, PendingRecovery, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.observation import Observation
from tests.support.rigs.fleets import (
    NOW,
    condemned,
    fleet_of,
    scheduler_id,
    seen_of,
    stopping,
    worker,
)


def drained_by(fleet: Fleet, line: timeline.Timeline) -> Fleet:
    for child in fleet.living_workers():
        child.state, child.drain.timeline = ChildState.DRAINING, line
    return fleet


def begun(fleet: Fleet, now_s: float = NOW) -> actions.BeginStop | None:
    found = [a for a in plan(fleet, now_s) if isinstance(a, actions.BeginStop)]
    return found[0] if found else None


def test_a_post_that_is_not_wanted_any_more_drains() -> None:
    fleet = fleet_of()
    fleet.workers[1].active = False
    (drain,) = plan(fleet, NOW)
    assert isinstance(drain, actions.DrainWorker)
    assert (drain.worker_id, drain.timeline.interrupt_s) == ("n.1", NOW + 20)


def test_a_worker_of_several_slots_lets_the_siblings_of_a_late_job_finish_first() -> None:
    late = SlotView(0, 7, 0, 1, "job-7", "shop.slow")
    sibling = SlotView(1, 8, 0, 0, "job-8", "shop.fair")
    fleet = fleet_of(kills_overdue=False)
    seen = Observation(0.5, [late, sibling], (0, 0, 0, 0), overdue=late, over=(late,))
    fleet.observations["n.0"] = seen
    (drain,) = plan(fleet, NOW)
    assert isinstance(drain, actions.DrainWorker)
    assert drain.late == (late,)
    child = worker(fleet)
    child.state, child.drain.timeline, child.late = ChildState.DRAINING, drain.timeline, drain.late
    assert plan(fleet, NOW + 1) == []
    assert child.drain.timeline is not None
    assert condemned(fleet, child.drain.timeline.interrupt_s).late == (late,)
    seen.blocked = True
    assert condemned(fleet, NOW + 1).late == (late,)
    fleet.observations["n.0"] = Observation(0.5, [late], (0, 0, 0, 0), overdue=late, over=(late,))
    assert condemned(fleet, NOW + 1).late == (late,)


def test_a_stop_drains_every_worker_and_not_the_scheduler() -> None:
    fleet = stopping(fleet_of())
    assert [a.worker_id for a in plan(fleet, NOW) if isinstance(a, actions.DrainWorker)] == [
        "n.0",
        "n.1",
    ]


def test_a_drain_goes_through_its_steps_in_their_order() -> None:
    fleet = stopping(fleet_of(workers=1))
    assert fleet.stop is not None
    line = fleet.stop.timeline
    drained_by(fleet, line)
    child = worker(fleet)
    assert plan(fleet, line.interrupt_s - 0.1) == []
    assert plan(fleet, line.interrupt_s) == [actions.InterruptWorker("n.0")]
    child.drain.interrupted = True
    assert plan(fleet, line.recover_s) == [actions.RequestRecovery("n.0", "interrupted")]
    child.drain.recovery_requested = True
    (condemn,) = plan(fleet, line.term_s)
    assert isinstance(condemn, actions.Kill)
    assert [signal for _, signal in condemn.ladder] == ["SIGTERM", "SIGKILL"]


def test_the_end_is_scheduler_then_zygote_then_exit() -> None:
    fleet = stopping(fleet_of(workers=0))
    assert fleet.stop is not None
    assert plan(fleet, NOW) == [actions.RetireScheduler()]
    fleet.stop.retired = True
    assert plan(fleet, NOW) == []
    fleet.scheduler.child = None
    assert plan(fleet, NOW) == [actions.RetireZygote(1)]
    fleet.zygotes[0].state, fleet.zygotes[0].since_s = ZygoteState.LEAVING, NOW
    assert plan(fleet, NOW) == []
    fleet.zygotes = []
    assert plan(fleet, NOW) == [actions.Finish(0)]


def test_the_scheduler_stays_as_long_as_recoveries_are_pending() -> None:
    fleet = stopping(fleet_of(workers=0))
    fleet.pending_recoveries["n.9"] = PendingRecovery(
        RecoverWorker("n.9", (), "interrupted"), sent_to=scheduler_id(fleet)
    )
    assert plan(fleet, NOW) == []
    assert fleet.stop is not None
    assert plan(fleet, fleet.stop.timeline.retire_s) == [actions.RetireScheduler()]


def test_a_dead_scheduler_is_replaced_while_workers_drain_and_not_after() -> None:
    fleet = stopping(fleet_of())
    assert fleet.stop is not None
    drained_by(fleet, fleet.stop.timeline)
    fleet.scheduler.child = None
    assert plan(fleet, NOW) == [actions.SpawnChild(fleet.scheduler.number)]
    fleet.zygotes = []
    assert plan(fleet, NOW) == [actions.StartZygote(2)]
    for post in fleet.workers:
        post.child = None
    assert plan(fleet, NOW) == [actions.Finish(0)]


def test_nobody_is_started_for_recoveries_once_their_time_is_over() -> None:
    fleet = stopping(fleet_of(workers=0))
    fleet.scheduler.child = None
    fleet.pending_recoveries = {
        "n.9": PendingRecovery(RecoverWorker(worker_id="n.9", running=(7,), how="orphaned"))
    }
    fleet.zygotes[0].state = ZygoteState.LEAVING
    assert fleet.stop is not None
    assert actions.StartZygote(2) in plan(fleet, NOW + 1)
    assert actions.StartZygote(2) not in plan(fleet, fleet.stop.timeline.retire_s)


def test_no_worker_is_spawned_during_a_stop() -> None:
    fleet = stopping(fleet_of())
    fleet.workers[0].child = None
    assert not [a for a in plan(fleet, NOW) if isinstance(a, actions.SpawnChild)]


@given(st.floats(0, 200), st.sampled_from(list(ChildState)), st.booleans(), st.booleans())
def test_whatever_hangs_the_stop_ends_in_time(
    after_s: float,
    state: ChildState,
    pending_recoveries: bool,
    zygote: bool,
) -> None:
    fleet = stopping(fleet_of())
    assert fleet.stop is not None
    for child in fleet.children():
        child.state = state
    if pending_recoveries:
        fleet.pending_recoveries["n.9"] = PendingRecovery(RecoverWorker("n.9", (), "orphaned"))
    if not zygote:
        fleet.zygotes = []
    at_s = fleet.stop.timeline.end_s + after_s
    assert plan(fleet, at_s) == [actions.Finish(0)]
    assert fleet.stop.timeline.end_s < NOW + fleet.grace_s


def test_an_app_that_cannot_be_imported_ends_with_78() -> None:
    fleet = fleet_of(workers=0, served=False, loaded_s=None, app_error="no module", zygotes=[])
    end = begun(fleet)
    assert end is not None
    assert end.exit_code == 78


def test_an_app_that_cannot_be_imported_any_more_does_not_end_a_daemon_that_serves() -> None:
    assert begun(fleet_of(app_error="no module")) is None


def test_when_every_post_has_failed_to_boot_three_times_it_is_70_or_for_the_storage_69() -> None:
    fleet = fleet_of(served=False)
    for post in fleet.workers[:2]:
        post.child, post.boots_failed, post.spawn_at_s = None, 3, NOW + 9
    end = begun(fleet)
    assert end is not None
    assert end.exit_code == 70
    for post in fleet.workers:
        post.last_step = "storage"
    end = begun(fleet)
    assert end is not None
    assert end.exit_code == 69


@pytest.mark.parametrize("failures", [(3, 2), (3, 0)])
def test_as_long_as_a_post_may_still_boot_the_daemon_stays(failures: tuple[int, int]) -> None:
    fleet = fleet_of(served=False)
    for post, failed in zip(fleet.workers, failures, strict=False):
        post.child, post.boots_failed, post.spawn_at_s = None, failed, NOW + 9
    assert begun(fleet) is None


def test_a_daemon_that_has_served_once_never_gives_up() -> None:
    fleet = fleet_of()
    for post in fleet.posts:
        post.child, post.boots_failed, post.spawn_at_s = None, 99, NOW + 9
    assert begun(fleet) is None


def test_a_storage_that_nobody_reaches_ends_with_69_after_the_wait() -> None:
    fleet = fleet_of(workers=1, served=False, loaded_s=NOW - 29.0)
    for child in fleet.children():
        child.state, child.storage_error = ChildState.BOOTING, "connection refused"
    assert begun(fleet) is None
    end = begun(fleet, NOW + 1.0)
    assert end is not None
    assert end.exit_code == 69
    worker(fleet).storage_error = ""
    assert begun(fleet, NOW + 1.0) is None


def test_burst_ends_when_all_have_said_empty_and_done_nothing_since() -> None:
    fleet = fleet_of(burst=True)
    assert begun(fleet) is None
    for child in fleet.living_workers():
        child.empty_at = (0, 0, 0, 0)
    assert begun(fleet) is not None
    fleet.observations["n.0"] = seen_of(busy=True)
    assert begun(fleet) is None
    fleet.observations["n.0"] = Observation(0.1, [], (1, 0, 0, 0))
    assert begun(fleet) is None

"""The plan: for every state and event what follows, and what the master does about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Quiet, RecoverWorker, Resume
from taskqd.supervisor.policy.plan import BUSY_TICK_S, TICK_S, plan, wake_in_s
from taskqd.supervisor.state import actions, timeline
from taskqd.supervisor.state.fleet import (
    Child,
    Fleet,
    Observation,
    PendingRecovery,
    Stop,
    ZygoteState,
)
from taskqd.supervisor.state.lifecycle import TRANSITIONS, ChildEvent, ChildState, next_state
from tests.support.rigs.fleets import NOW, child_of, fleet_of, seen_of


def scheduler_id(fleet: Fleet) -> str:
    child = fleet.scheduler.child
    assert child is not None
    return child.worker_id


def worker(fleet: Fleet, number: int = 0) -> Child:
    child = fleet.workers[number].child
    assert child is not None
    return child


def stopping(fleet: Fleet, begun_s: float = NOW, **changes: Any) -> Fleet:
    fleet.stop = Stop(timeline.begin(begun_s, fleet.grace_s), "SIGTERM", **changes)
    return fleet


def drained_by(fleet: Fleet, line: timeline.Timeline) -> Fleet:
    for child in fleet.living_workers():
        child.state, child.drain.timeline = ChildState.DRAINING, line
    return fleet


# -- the law of lives ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ChildState)
@pytest.mark.parametrize("event", ChildEvent)
def test_every_pair_of_state_and_event_has_a_next_state(
    state: ChildState, event: ChildEvent
) -> None:
    assert isinstance(next_state(state, event), ChildState)


def test_the_law_names_every_state_and_only_changes() -> None:
    assert set(TRANSITIONS) == set(ChildState)
    for state, row in TRANSITIONS.items():
        assert all(after is not state for after in row.values()), state


def test_death_comes_from_everywhere_and_nothing_comes_after_it() -> None:
    for state in ChildState:
        assert next_state(state, ChildEvent.DIED) is ChildState.DEAD
    for event in ChildEvent:
        assert next_state(ChildState.DEAD, event) is ChildState.DEAD


ORDER = list(ChildState)


@given(st.lists(st.sampled_from(ChildEvent)))
def test_a_life_never_goes_back(events: list[ChildEvent]) -> None:
    """Whatever comes in whatever order, doubled or late, no child becomes younger."""
    state = ChildState.SPAWNING
    for event in events:
        after = next_state(state, event)
        assert ORDER.index(after) >= ORDER.index(state)
        state = after


def test_a_condemned_child_stays_condemned_until_it_is_dead() -> None:
    for event in set(ChildEvent) - {ChildEvent.DIED, ChildEvent.FORK_FAILED}:
        assert next_state(ChildState.DYING, event) is ChildState.DYING


# -- calm ------------------------------------------------------------------------------------------


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


# -- zygotes and posts -----------------------------------------------------------------------------


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


def test_a_post_that_is_not_wanted_any_more_drains() -> None:
    fleet = fleet_of()
    fleet.workers[1].active = False
    (drain,) = plan(fleet, NOW)
    assert isinstance(drain, actions.DrainWorker)
    assert (drain.worker_id, drain.timeline.interrupt_s) == ("n.1", NOW + 20)


# -- faults ----------------------------------------------------------------------------------------


def condemned(fleet: Fleet, now_s: float = NOW) -> actions.Kill:
    (action,) = plan(fleet, now_s)
    assert isinstance(action, actions.Kill)
    return action


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


# -- pending_recoveries -----------------------------------------------------------------------------------------


def test_a_debt_is_presented_to_each_scheduler_once() -> None:
    fleet = fleet_of()
    fleet.pending_recoveries["n.9"] = PendingRecovery(RecoverWorker("n.9", (7,), "orphaned"))
    assert plan(fleet, NOW) == [actions.SendRecovery("n.9")]
    fleet.pending_recoveries["n.9"].sent_to = scheduler_id(fleet)
    assert plan(fleet, NOW) == []
    assert fleet.scheduler.child is not None
    fleet.scheduler.child.worker_id = "n.77"
    assert actions.SendRecovery("n.9") in plan(fleet, NOW)


def test_a_debt_waits_for_a_scheduler_that_is_ready() -> None:
    fleet = fleet_of()
    fleet.pending_recoveries["n.9"] = PendingRecovery(RecoverWorker("n.9", (), "orphaned"))
    fleet.scheduler.child = child_of(fleet.scheduler, ChildState.BOOTING, since_s=NOW)
    assert plan(fleet, NOW) == []


# -- quiet -----------------------------------------------------------------------------------------


def test_quiet_and_resume_are_told_to_those_who_do_not_know() -> None:
    fleet = fleet_of(quiet=True)
    worker(fleet, 1).quiet = True
    assert plan(fleet, NOW) == [actions.Tell("n.0", Quiet())]
    worker(fleet, 0).quiet = True
    assert plan(fleet, NOW) == []
    fleet.quiet = False
    assert plan(fleet, NOW) == [actions.Tell("n.0", Resume()), actions.Tell("n.1", Resume())]


# -- the stop --------------------------------------------------------------------------------------


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


def test_the_scheduler_stays_as_long_as_jobs_are_owed() -> None:
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


def test_nobody_is_started_for_debts_once_their_time_is_over() -> None:
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


# -- never served ----------------------------------------------------------------------------------


def begun(fleet: Fleet, now_s: float = NOW) -> actions.BeginStop | None:
    found = [a for a in plan(fleet, now_s) if isinstance(a, actions.BeginStop)]
    return found[0] if found else None


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


# -- burst -----------------------------------------------------------------------------------------


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

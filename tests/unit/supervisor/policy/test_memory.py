"""What is done where memory runs short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc.board import SlotView
from taskqd.settings import MIB, LimitSettings
from taskqd.supervisor.policy import memory as policy_memory
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions, memory
from taskqd.supervisor.state.fleet import Fleet, Post
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.memory import MemoryMark, MemoryState, Pressure
from taskqd.supervisor.state.observation import Observation
from tests.support.rigs.fleets import NOW, fleet_of, worker

LIMITS = LimitSettings()


RUNNING = [SlotView(0, 7, 0, 0, "job-7", "shop.slow")]


def at(percent: float) -> Pressure:
    return Pressure(round(percent * 10), 1000)


def noted(*percents: float, limits: LimitSettings = LIMITS) -> MemoryState:
    known = MemoryState()
    for percent in percents:
        memory.note(known, at(percent), limits)
    return known


def short(mark: MemoryMark, *, held: bool = False, workers: int = 3) -> Fleet:
    fleet = fleet_of(workers, 6)
    fleet.memory = MemoryState(at(92), mark, mark, held)
    for number, child in enumerate(fleet.living_workers()):
        child.load.pss_bytes = (number + 1) * MIB
        fleet.observations[child.worker_id] = Observation(0.5, [], (9, 0, 0, 0))
    return fleet


def freed(fleet: Fleet) -> list[tuple[str, bool]]:
    found = list(policy_memory.shed(fleet, NOW))
    return [(act.worker_id, act.kill) for act in found if isinstance(act, actions.ShedWorker)]


@given(st.lists(st.floats(0, 130), max_size=20))
def test_without_a_limit_nothing_is_held_and_nothing_freed(percents: list[float]) -> None:
    known = noted(*percents)
    memory.note(known, None, LIMITS)
    assert (known.mark, known.held) == (0, False)


def test_at_the_first_mark_the_largest_idle_worker_goes() -> None:
    fleet = short(MemoryMark.RECYCLE)
    assert freed(fleet) == [("n.2", False)]
    fleet.observations["n.2"] = Observation(0.5, RUNNING, (9, 0, 0, 0))
    assert freed(fleet) == [("n.1", False)]
    fleet.observations["n.1"] = Observation(0.5, [], (0, 0, 0, 0))
    assert freed(fleet) == [("n.0", False)]
    worker(fleet, 0).ready_s = NOW - policy_memory.SERVED_S + 0.1
    assert freed(fleet) == []


def test_only_one_goes_at_a_time_and_the_next_after_a_pause() -> None:
    fleet = short(MemoryMark.HOLD)
    worker(fleet, 0).recycled = True
    assert freed(fleet) == []
    fleet = short(MemoryMark.RECYCLE)
    fleet.memory.recycle_at_s = NOW + 0.1
    assert freed(fleet) == []


def test_at_the_last_mark_the_largest_worker_is_killed_whatever_it_does() -> None:
    fleet = short(MemoryMark.STOP)
    worker(fleet, 2).state = ChildState.DRAINING
    fleet.observations["n.2"] = Observation(0.5, RUNNING, (9, 0, 0, 0))
    assert freed(fleet) == [("n.2", True)]
    worker(fleet, 2).state = ChildState.DYING
    assert freed(fleet) == [("n.1", True)]
    (kill,) = policy_memory.shed(fleet, NOW)
    assert isinstance(kill, actions.ShedWorker)
    assert kill.reason.startswith("memory: 92 % of ")


def test_while_leasing_is_held_one_worker_goes_on_one_job_at_a_time() -> None:
    fleet = short(MemoryMark.HOLD, held=True)
    assert [policy_memory.must_rest(fleet, child) for child in fleet.living_workers()] == [
        False,
        True,
        True,
    ]
    fleet.observations["n.1"] = Observation(0.5, RUNNING, (9, 0, 0, 0))
    assert all(policy_memory.must_rest(fleet, child) for child in fleet.living_workers())
    fleet.quiet = True
    assert all(policy_memory.must_rest(fleet, child) for child in fleet.living_workers())


def test_a_hold_is_told_to_workers_and_taken_back() -> None:
    fleet = short(0, held=True)
    told = [act.message for act in plan(fleet, NOW) if isinstance(act, actions.Tell)]
    assert len(told) == 2
    for child in fleet.living_workers():
        child.quiet = True
    fleet.memory.held = False
    told = [act.message for act in plan(fleet, NOW) if isinstance(act, actions.Tell)]
    assert len(told) == 3


def test_a_fleet_without_workers_has_nothing_to_free() -> None:
    fleet = Fleet([Post(0, "worker")], Post(1, "scheduler"), 25.0, 30.0, True)
    fleet.memory = MemoryState(at(99), MemoryMark.STOP, MemoryMark.STOP)
    assert freed(fleet) == []

"""Memory that runs short: what follows from the figures, and how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskqd.ipc.board import SlotView
from taskqd.settings import MIB, LimitSettings
from taskqd.supervisor.host import cgroup
from taskqd.supervisor.policy import memory as policy_memory
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions, memory
from taskqd.supervisor.state.fleet import Child, Fleet, Observation, Post
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.memory import MemoryMark, MemoryState, Pressure
from tests.support.files import write_tree
from tests.unit.test_supervisor_plan import NOW, fleet_of

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


def worker(fleet: Fleet, number: int) -> Child:
    child = fleet.workers[number].child
    assert child is not None
    return child


def freed(fleet: Fleet) -> list[tuple[str, bool]]:
    found = list(policy_memory.shed(fleet, NOW))
    return [(act.worker_id, act.kill) for act in found if isinstance(act, actions.ShedWorker)]


@pytest.mark.parametrize(
    ("percent", "mark"),
    [
        (79.9, 0),
        (80, MemoryMark.RECYCLE),
        (90, MemoryMark.HOLD),
        (94.9, MemoryMark.HOLD),
        (95, MemoryMark.STOP),
        (120, 3),
    ],
)
def test_a_mark_counts_when_two_looks_have_found_it(percent: float, mark: int) -> None:
    assert noted(percent).mark == 0
    assert noted(percent, percent).mark == mark
    assert noted(percent, 10).mark == 0


def test_a_mark_that_is_off_is_never_passed() -> None:
    limits = LimitSettings(memory_stop_percent=None, memory_hold_percent=None)
    known = noted(99, 99, limits=limits)
    assert (known.mark, known.held) == (MemoryMark.RECYCLE, False)


def test_leasing_goes_on_only_some_way_below_the_mark() -> None:
    assert noted(91, 91).held
    assert noted(91, 91, 89, 86, 85.1).held
    assert not noted(91, 91, 84.9).held


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


# -- control groups --------------------------------------------------------------------------------


V2_FILES = {
    "proc/self/cgroup": "0::/app/worker\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/app/memory.max": "1000\n",
    "sys/fs/cgroup/app/memory.high": "800\n",
    "sys/fs/cgroup/app/memory.current": "500\n",
    "sys/fs/cgroup/app/memory.stat": "anon 300\ninactive_file 100\n",
    "sys/fs/cgroup/app/worker/memory.max": "max\n",
    "sys/fs/cgroup/app/worker/memory.current": "300\n",
}


def test_the_tightest_limit_of_all_groups_above_counts_without_what_can_be_dropped(
    tmp_path: Path,
) -> None:
    found = cgroup.groups(write_tree(tmp_path, V2_FILES))
    assert [group.folder.name for group in found] == ["worker", "app"]
    assert cgroup.pressure(found) == Pressure(400, 800)


def test_version_1_has_other_names_for_the_same(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/a\n0::/\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000\n",
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "900\n",
        "sys/fs/cgroup/memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 150\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000\n",
    }
    assert cgroup.pressure(cgroup.groups(write_tree(tmp_path, files))) == Pressure(750, 1000)


def test_where_nothing_can_be_read_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup.groups(tmp_path) == []
    assert cgroup.pressure([]) is None


def test_a_group_that_systemd_has_not_given_away_is_left_alone(tmp_path: Path) -> None:
    files = {
        **V2_FILES,
        "proc/self/cgroup": "0::/taskqd.service\n",
        "sys/fs/cgroup/taskqd.service/memory.current": "1\n",
        "sys/fs/cgroup/taskqd.service/cgroup.procs": "",
    }
    reason = cgroup.worker_groups(64 * MIB, cgroup.groups(write_tree(tmp_path, files)))
    assert isinstance(reason, str)
    assert "Delegate=yes" in reason


def test_a_delegated_group_is_shared_out_and_its_processes_move_aside(tmp_path: Path) -> None:
    files = {
        **V2_FILES,
        "sys/fs/cgroup/app/worker/cgroup.procs": "",
        "sys/fs/cgroup/app/worker/cgroup.controllers": "memory\n",
        "sys/fs/cgroup/app/worker/cgroup.subtree_control": "",
    }
    found = cgroup.groups(write_tree(tmp_path, files))
    made = cgroup.worker_groups(64 * MIB, found)
    assert isinstance(made, cgroup.WorkerGroups)
    own = found[0].folder
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    assert (own / "taskqd").is_dir()
    made.enter(3, 4711)
    (group,) = own.glob("taskqd-*-3")
    assert (group / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (group / "cgroup.procs").read_text() == "4711\n"
    (group / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert made.kills(3) == 1
    assert made.kills(2) == 0

"""Memory control groups, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskqd.settings import MIB
from taskqd.supervisor.host import cgroup
from taskqd.supervisor.host.cgroup import OomCounter
from taskqd.supervisor.state.memory import Pressure
from tests.support.files import write_tree

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


@pytest.mark.parametrize(
    ("group", "file", "used"),
    [
        (
            "4:memory:/pod\n0::/\n",
            "sys/fs/cgroup/memory/pod/memory.oom_control",
            "memory.usage_in_bytes",
        ),
        ("0::/pod\n", "sys/fs/cgroup/pod/memory.events", "memory.current"),
        ("0::/host/path/of/pod\n", "sys/fs/cgroup/memory.events", "memory.current"),
    ],
    ids=["v1", "v2", "v2 in a container"],
)
def test_kills_are_counted_since_the_last_look(
    tmp_path: Path, group: str, file: str, used: str
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(group)
    counter_file = tmp_path / file
    counter_file.parent.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").touch()
    (counter_file.parent / used).touch()
    counter_file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    counter = OomCounter(tmp_path)
    assert counter.take() == 0
    counter_file.write_text("low 0\noom 5\noom_kill 3\n")
    assert counter.take() == 1
    assert counter.take() == 0


def test_where_the_kernel_does_not_tell_nothing_is_counted(tmp_path: Path) -> None:
    assert OomCounter(tmp_path).take() == 0


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

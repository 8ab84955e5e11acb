"""What taskqctl doctor reads of a host: processes, control groups, units."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

import pytest

from taskqd.supervisor.ctl.doctor import look
from taskqd.supervisor.ctl.doctor.facts import (
    ControlGroup,
    Daemon,
    Manager,
    Parent,
)
from tests.support.files import write_tree

STATUS = {
    "pid": 500,
    "grace_s": 30.0,
    "wanted": 2,
    "slots": 3,
    "unsafe": ["thread x"],
    "workers": [{"running": [{"ran_s": 4.0}, {"ran_s": 9.0}]}, {}],
}


LIMITS = "Limit                     Soft Limit  Hard Limit  Units\nMax open files            1024        4096        files\n"


def test_a_daemon_behind_a_shell_in_a_container_is_seen_as_such(tmp_path: Path) -> None:
    place = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(place)
        os.chmod(place, 0o600)
        os.chmod(tmp_path, 0o700)
        root = write_tree(
            tmp_path / "root",
            {
                "proc/500/status": "Name:\ttaskqd\nNSpid:\t500\t7\n",
                "proc/500/stat": "500 (taskqd: ma) ster) S 400 1 1 0 -1 0\n",
                "proc/500/limits": LIMITS,
                "proc/400/status": "NSpid:\t400\t1\n",
                "proc/400/comm": "sh\n",
                "proc/400/cmdline": "/bin/sh\0-c\0taskqd app:app; true\0",
            },
        )
        seen = look.daemon(STATUS, place, root)
    assert seen == Daemon(
        pid=7,
        grace_s=30.0,
        workers=2,
        slots=3,
        longest_run_s=9.0,
        parent=Parent(1, "sh", 3, False),
        unsafe=("thread x",),
        nofile=1024.0,
    )


def test_limits_of_control_groups_are_read_in_both_versions(tmp_path: Path) -> None:
    v2 = write_tree(
        tmp_path / "v2",
        {
            "proc/5/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/memory.max": "200\n",
            "sys/fs/cgroup/pod/memory.current": "150\n",
            "sys/fs/cgroup/pod/box/memory.max": "max\n",
            "sys/fs/cgroup/pod/box/memory.current": "90\n",
            "sys/fs/cgroup/pod/box/pids.max": "64\n",
            "sys/fs/cgroup/pod/box/pids.current": "9\n",
            "sys/fs/cgroup/pod/box/cpu.max": "150000 100000\n",
        },
    )
    assert look.group(5, v2) == ControlGroup(200, 150, 64, 9, 1.5)
    v1 = write_tree(
        tmp_path / "v1",
        {
            "proc/5/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n2:pids:/box\n1:name=systemd:/box\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "300\n",
            "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "30\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "9999\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/pids/box/pids.max": "max\n",
        },
    )
    assert look.group(5, v1) == ControlGroup(memory_max=300, memory_used=30)
    assert look.group(5, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("1min 30s", 90.0), ("2h", 7200.0), ("500ms", 0.5), ("infinity", math.inf)],
)
def test_time_spans_are_read_as_systemctl_writes_them(text: str, seconds: float) -> None:
    assert look.span_s(text) == seconds
    assert look.span_s("") is None


def test_the_unit_that_stops_the_daemon_is_asked_for_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "systemctl"
    fake.write_text('#!/bin/sh\nprintf "TimeoutStopUSec=1min 30s\\nType=notify-reload\\n"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    root = write_tree(tmp_path, {"proc/5/cgroup": "0::/system.slice/taskqd.service\n"})
    assert look.manager(5, None, root) == Manager("taskqd.service", 90.0, notify=True)
    session = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n"
    write_tree(tmp_path, {"proc/6/cgroup": session})
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert look.manager(6, None, root) == Manager()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert look.manager(6, None, root) == Manager(pod=True)

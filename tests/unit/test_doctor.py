"""taskqctl doctor: each check, for each of its verdicts, and what it reads of a host."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from taskqd.storage.base import Node, NodeRow
from taskqd.supervisor.ctl.doctor import look
from taskqd.supervisor.ctl.doctor.checks import CHECKS, examine
from taskqd.supervisor.ctl.doctor.command import namesakes
from taskqd.supervisor.ctl.doctor.facts import (
    ControlGroup,
    Daemon,
    Facts,
    File,
    Finding,
    Manager,
    Parent,
    Store,
    Tasks,
)
from tests.support.files import write_tree

MB = 1_000_000


def daemon(**facts: Any) -> Facts:
    base = Daemon(pid=50, grace_s=25.0, workers=4, slots=1, longest_run_s=0.0)
    return Facts(daemon=base._replace(**facts))


def shell(pid: int, arguments: int = 3, *, terminal: bool = False) -> Facts:
    return daemon(parent=Parent(pid, "sh", arguments, terminal))


def managed(**facts: Any) -> Facts:
    return Facts(manager=Manager(**facts))


def grouped(**facts: Any) -> Facts:
    return daemon(workers=4, slots=2)._replace(group=ControlGroup(**facts))


def stored(**facts: Any) -> Facts:
    return Facts(store=Store("redis://x", **facts))


def filed(**facts: Any) -> Facts:
    file = File("/data/a.db", "ext4", False, True, "full", 10_000 * MB)
    return stored(file=file._replace(**facts))


VERDICTS: list[tuple[str, str, Facts, str]] = [
    ("daemon", "ok", daemon(), "4 workers"),
    ("daemon", "skip", Facts(daemon_error="no socket"), "no socket"),
    ("front", "ok", daemon(pid=1), "PID 1"),
    ("front", "ok", daemon(parent=Parent(1, "systemd", 1, False)), "systemd"),
    ("front", "ok", daemon(parent=Parent(1, "tini", 4, False)), "tini"),
    ("front", "ok", shell(70, 1, terminal=True), "started by sh"),
    ("front", "warn", shell(70), "keeps SIGTERM"),
    ("front", "fail", shell(1), "keeps SIGTERM"),
    ("front", "fail", shell(1, 1), "keeps SIGTERM"),
    ("socket", "ok", daemon(), "root"),
    ("socket", "ok", daemon(folder_mode=0o1777), "root"),
    ("socket", "fail", daemon(socket_mode=0o660), "0660"),
    ("socket", "fail", daemon(folder_mode=0o777), "0777"),
    ("fork", "ok", daemon(), "nothing known"),
    ("fork", "warn", daemon(unsafe=("thread pool-1",)), "thread pool-1"),
    ("fork", "warn", Facts(tasks=Tasks(libraries=("grpc",))), "imports grpc"),
    ("nofile", "ok", daemon(nofile=1024), "1024 open files, 88 needed"),
    ("nofile", "ok", daemon(nofile=math.inf), "unlimited"),
    ("nofile", "warn", daemon(nofile=1024, slots=200), "864 needed"),
    ("nofile", "fail", daemon(nofile=256, workers=100), "664 needed"),
    ("grace-jobs", "ok", daemon(longest_run_s=20), "25 s"),
    ("grace-jobs", "warn", daemon(longest_run_s=90), "has run for 90 s"),
    ("grace-jobs", "warn", Facts(tasks=Tasks("shop.slow", 60)), "shop.slow may run 60 s"),
    ("grace-jobs", "ok", Facts(tasks=Tasks("shop.slow", 60), grace_s=60), "60 s"),
    ("grace-manager", "ok", Facts(), "no service manager"),
    ("grace-manager", "ok", managed(unit="a.service", stop_s=30), "TimeoutStopSec=30"),
    ("grace-manager", "ok", managed(unit="a.service", stop_s=math.inf), "unlimited"),
    ("grace-manager", "warn", managed(unit="a.service", stop_s=27), "TimeoutStopSec=27"),
    ("grace-manager", "warn", managed(unit="a.service", stop_s=10, notify=True), "asks for more"),
    ("grace-manager", "fail", managed(unit="a.service", stop_s=10), "TimeoutStopSec=10"),
    ("grace-manager", "skip", managed(pod=True), "cannot see"),
    ("grace-manager", "warn", Facts(manager=Manager(pod=True), grace_s=60), "cannot see"),
    ("grace-manager", "ok", managed(pod=True, pod_grace_s=40), "after 40 s"),
    ("grace-manager", "warn", managed(pod=True, pod_grace_s=26), "after 26 s"),
    ("grace-manager", "fail", managed(pod=True, pod_grace_s=20), "after 20 s"),
    ("memory", "ok", grouped(), "no limit"),
    ("memory", "ok", grouped(memory_max=100 * MB, memory_used=50 * MB), "50 of 100 MB"),
    ("memory", "warn", grouped(memory_max=100 * MB, memory_used=95 * MB), "95 of 100 MB"),
    ("pids", "ok", grouped(), "no limit"),
    ("pids", "ok", grouped(pids_max=512, pids_used=20), "up to 32 needed"),
    ("pids", "fail", grouped(pids_max=20, pids_used=15), "15 of 20"),
    ("cpu", "ok", grouped(), "no quota"),
    ("cpu", "ok", grouped(cpus=1.0), "4 workers on a quota of 1"),
    ("cpu", "warn", daemon(workers=9)._replace(group=ControlGroup(cpus=1.5)), "9 workers"),
    ("storage", "ok", stored(), "serves"),
    ("storage", "warn", stored(warnings=["maxmemory-policy lru may drop jobs"]), "may drop"),
    ("storage", "fail", stored(error="refused"), "refused"),
    ("clock", "ok", stored(skew_s=0.4), "agree"),
    ("clock", "ok", stored(skew_s=3.0, doubt_s=2.5), "agree"),
    ("clock", "warn", stored(skew_s=-3.0), "3.00 s behind"),
    ("clock", "fail", stored(skew_s=60.0), "60.00 s ahead"),
    ("file", "ok", filed(), "WAL"),
    ("file", "warn", filed(wal=False), "not in WAL mode"),
    ("file", "warn", filed(free_bytes=200 * MB), "200 MB left"),
    ("file", "warn", filed(synchronous="normal"), "power cut"),
    ("file", "fail", filed(free_bytes=10 * MB), "10 MB left"),
    ("file", "fail", filed(network=True, file_system="nfs4"), "nfs4"),
    ("name", "ok", stored(), "no two daemons"),
    ("name", "warn", stored(namesakes=["shop@a (pids 1, 2)"]), "shop@a"),
]


@pytest.mark.parametrize(
    ("check", "verdict", "facts", "text"),
    VERDICTS,
    ids=[f"{check}-{verdict}-{number}" for number, (check, verdict, *_) in enumerate(VERDICTS)],
)
def test_each_check_reaches_each_of_its_verdicts(
    check: str, verdict: str, facts: Facts, text: str
) -> None:
    found = {finding.check: finding for finding in examine(facts)}[check]
    assert found.verdict == verdict, found
    assert text in found.text
    assert found.remedy or verdict in ("ok", "skip")


def test_every_check_is_tried_and_what_cannot_be_seen_is_said() -> None:
    assert {check for check, verdict, *_ in VERDICTS if verdict == "ok"} == set(CHECKS)
    blind = list(examine(Facts()))
    assert [finding.check for finding in blind] == list(CHECKS)
    assert Finding("memory", "skip", "needs a daemon that runs") in blind
    assert Finding("clock", "skip", "cannot be seen from here") in blind


# -- what is read ----------------------------------------------------------------------------------


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


def test_only_living_nodes_of_one_name_are_namesakes() -> None:
    def row(node_id: str, name: str, pid: int, expires_in_s: float = 5.0) -> NodeRow:
        return NodeRow(Node(node_id, name, pid=pid), expires_in_s, {})

    rows = [
        *(row("a", "shop@h", 1), row("b", "shop@h", 2), row("c", "shop@h", 3, -1.0)),
        *(row("d", "other@h", 4), row("e", "", 5), row("f", "", 6)),
    ]
    assert namesakes(rows) == ["shop@h (pids 1, 2)"]

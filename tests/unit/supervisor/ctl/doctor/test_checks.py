"""The checks of taskqctl doctor: each of them, for each of its verdicts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from taskqd.supervisor.ctl.doctor.checks import CHECKS, examine
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

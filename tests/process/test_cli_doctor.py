"""taskqctl doctor as it is run: beside a daemon, beside none, and where something is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taskqd.storage import open_storage
from tests.support.rigs.ctl import Done, taskqctl
from tests.support.rigs.daemon import Daemon, fake_daemon


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    open_storage(url, "shop").close()
    return url


def doctor(daemon: Daemon, url: str, *words: str) -> Done:
    where = ("--socket", daemon.socket, "--storage", url, "--namespace", "shop")
    return taskqctl(daemon.folder, "doctor", *where, *words)


def verdicts(done: Done) -> dict[str, Any]:
    return {row["check"]: row["verdict"] for row in done.json()}


def test_a_healthy_daemon_gets_a_verdict_for_each_check(tmp_path: Path, url: str) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.wait("master.ready")
        shown = doctor(daemon, url)
        assert shown.code == 0, shown
        found = verdicts(doctor(daemon, url, "--json"))
    assert {found[check] for check in ("daemon", "socket", "fork", "clock", "name")} == {"ok"}
    assert "fail" not in found.values()
    assert "daemon         answers, 2 workers" in shown.out


def test_a_failed_check_exits_with_1_and_says_what_to_do(tmp_path: Path, url: str) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.wait("master.ready")
        os.chmod(daemon.socket, 0o666)
        shown = doctor(daemon, url, "--pod-grace", "3")
        assert doctor(daemon, url, "--json").code == 1
    assert shown.code == 1
    assert "fail  socket         the admin socket has mode 0666" in shown.out
    assert "fail  grace-manager  the pod is killed after 3 s, the grace is 6 s" in shown.out
    assert "-> set terminationGracePeriodSeconds: 21" in shown.out


def test_without_a_daemon_the_rest_is_checked(tmp_path: Path, url: str) -> None:
    where = ("--socket", f"{tmp_path}/none.sock", "--storage", url, "--namespace", "shop")
    found = verdicts(taskqctl(tmp_path, "doctor", *where, "--json"))
    assert (found["daemon"], found["storage"], found["nofile"]) == ("skip", "ok", "skip")


def test_a_storage_that_is_away_is_a_verdict_and_no_error(tmp_path: Path) -> None:
    away = ("--storage", "redis://127.0.0.1:1/0", "--namespace", "shop")
    done = taskqctl(tmp_path, "doctor", "--socket", f"{tmp_path}/none.sock", *away)
    assert done.code == 1
    assert "fail  storage        storage redis://127.0.0.1:1/0" in done.out

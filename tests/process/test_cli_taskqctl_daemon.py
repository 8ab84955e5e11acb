"""taskqctl and a running daemon: the real master, over children that do as they are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rigs.ctl import ROOT, Done, taskqctl
from tests.support.rigs.daemon import Daemon, fake_daemon
from tests.support.waiting import HANG_S


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with fake_daemon(tmp_path) as running:
        running.wait("master.ready")
        yield running


def ctl(daemon: Daemon, *words: str) -> Done:
    return taskqctl(daemon.folder, *words, "--socket", daemon.socket)


def test_status_for_people_and_for_tools(daemon: Daemon) -> None:
    shown = ctl(daemon, "status")
    assert shown.code == 0
    assert shown.out.startswith(f"test: ready, pid {daemon.pid}, up ")
    assert "workers 2 of 2 ready" in shown.out
    facts = ctl(daemon, "status", "--json").json()
    assert (facts["state"], facts["wanted"], len(facts["workers"])) == ("ready", 2, 2)


def test_shared_options_may_stand_before_the_command(daemon: Daemon) -> None:
    before = taskqctl(daemon.folder, "--json", "--socket", daemon.socket, "status")
    assert before.json()["pid"] == daemon.pid


def test_probes_answer_by_exit_code(daemon: Daemon) -> None:
    assert ctl(daemon, "probe", "live").code == 0
    assert ctl(daemon, "probe", "ready", "--json").json() == {
        "up": True,
        "state": "ready",
        "reasons": [],
    }
    assert ctl(daemon, "quiet").code == 0
    not_ready = ctl(daemon, "probe", "ready")
    assert (not_ready.code, not_ready.out) == (1, "not ready: quiet\n")
    assert ctl(daemon, "probe", "live").code == 0
    assert ctl(daemon, "resume").code == 0
    assert ctl(daemon, "probe", "ready").code == 0


def test_a_probe_imports_the_standard_library_only(daemon: Daemon) -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from taskqd.supervisor.ctl.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(code, sorted(tops - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "probe", "live", "--socket", daemon.socket],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    assert done.stdout.splitlines() == ["ready", "0 ['taskqd']"]


def test_scale_and_its_bounds(daemon: Daemon) -> None:
    assert ctl(daemon, "scale", "1", "--json").json() == {"wanted": 1}
    daemon.wait("worker.drained")
    refused = ctl(daemon, "scale", "0")
    assert refused.code == 1
    assert refused.err.startswith("the daemon refuses: scale: expected 1 to")
    assert ctl(daemon, "scale", "many").code == 64


def test_stacks_are_shown_for_each_worker(daemon: Daemon) -> None:
    shown = ctl(daemon, "stacks", "--json").json()["stacks"]
    assert set(shown) == {"0", "1", "scheduler"}
    # Asking for what has been written asked for all of it once more.
    assert len(daemon.events("worker.stacks")) == len(shown)


def test_a_command_to_drain_cut_the_drain_of_an_earlier_command_or_signal_short(
    tmp_path: Path,
) -> None:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 600}) as daemon:
        daemon.wait("master.ready")
        for words in (["drain"], ["stop"], ["drain"]):
            assert ctl(daemon, *words, "--json").json()["seconds_left"] > 300
        daemon.send("SIGTERM")
        daemon.wait("signal.received", signal="SIGTERM")
        assert ctl(daemon, "drain", "--json").json()["seconds_left"] > 300
        daemon.send("SIGTERM")
        assert daemon.exit_code() == 0


@pytest.mark.parametrize("words", [["drain"], ["stop"], ["stop", "--now"]])
def test_drain_and_stop_wait_for_the_end_when_asked_to(tmp_path: Path, words: list[str]) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.wait("master.ready")
        assert ctl(daemon, *words, "--wait", "--json").json()["ended"] is True
        assert daemon.exit_code() == 0


def test_a_daemon_that_is_gone_frozen_or_somebody_elses_is_an_error_in_one_line(
    tmp_path: Path,
) -> None:
    socket = str(tmp_path / "none.sock")
    for words in (["status"], ["probe", "live"], ["stop"]):
        done = taskqctl(tmp_path, *words, "--socket", socket)
        assert done.code == 69
        assert len(done.err.splitlines()) == 1
        assert "no daemon answers" in done.err


def test_a_frozen_daemon_fails_its_probe_in_time(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        done = ctl(daemon, "probe", "live", "--timeout", "0.3")
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert done.code == 69
    assert "no daemon answers" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["probe"],
        ["probe", "well"],
        ["probe", "live", "--timeout"],
        ["probe", "live", "--timeout", "x"],
    ],
)
def test_a_probe_that_is_misused_says_how_it_is_used(tmp_path: Path, words: list[str]) -> None:
    done = taskqctl(tmp_path, *words)
    assert done.code == 64
    assert "usage: taskqctl probe live|ready" in done.err


def test_the_only_daemon_is_found_and_of_several_one_must_be_named(tmp_path: Path) -> None:
    def one(name: str) -> Daemon:
        return fake_daemon(tmp_path / name, name=name, admin={"socket": None})

    runtime = tmp_path / "run"
    env = {"RUNTIME_DIRECTORY": str(runtime), "XDG_RUNTIME_DIR": ""}
    first, second = one("first"), one("second")
    for daemon in (first, second):
        daemon._env.update(env)
    with first:
        first.wait("master.ready")
        assert taskqctl(tmp_path, "probe", "live", **env).code == 0
        with second:
            second.wait("master.ready")
            for words in (["probe", "live"], ["status"]):
                several = taskqctl(tmp_path, *words, **env)
                assert several.code == 69
                assert "several daemons run here: first, second; say --name" in several.err
            named = taskqctl(tmp_path, "status", "--name", "second", "--json", **env).json()
            assert named["instance"] == "second"
            assert (
                json.loads(taskqctl(tmp_path, "--json", "status", TASKQD_NAME="first", **env).out)[
                    "instance"
                ]
                == "first"
            )
            assert second.stop() == 0
        assert first.stop() == 0

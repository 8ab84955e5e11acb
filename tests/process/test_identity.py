"""Pid file, user, group, mask, and an address of health that is taken: the real command."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.supervisor.ctl.daemon import _status_lines
from tests.support.rigs.daemon import ROOT, Daemon
from tests.support.waiting import HANG_S, wait_until

APP = """
import os
from taskqd import App

app = App("shop", "sqlite:///shop.db")

@app.task(name="who")
def who() -> list[object]:
    mask = os.umask(0)
    os.umask(mask)
    home = os.environ.get("HOME")
    return [os.getuid(), os.getgid(), sorted(os.getgroups()), mask, home]
"""
PROBE = "import random, msgspec, taskqd.supervisor.master, taskqd.worker.zygote.app_loader"
PACKAGES = sysconfig.get_path("platlib")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder below one that everybody may enter."""
    made = Path(tempfile.mkdtemp(prefix="taskqd-who-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def command(folder: Path, *words: str, python: str = sys.executable) -> Daemon:
    folder.mkdir(exist_ok=True)
    (folder / "shop.py").write_text(APP)
    code = "from taskqd.supervisor.cli.main import main; main()"
    argv = [python, "-c", code, "shop:app", "-w", "1", "--log-format", "json"]
    env = {"TASKQD_ADMIN__SOCKET": str(folder / "admin.sock")}
    if python != sys.executable:
        env["PYTHONPATH"] = f"{ROOT}:{folder}:{PACKAGES}"
    return Daemon(folder, [*argv, *words], env=env)


def python_of(user: str) -> str:
    """Return an interpreter that the user may run: root's own often lies where nobody else looks."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{PACKAGES}"}
    for python in (sys.executable, "/usr/bin/python3"):
        tried = ["setpriv", f"--reuid={user}", "--clear-groups", "env", python, "-c", PROBE]
        done = subprocess.run(tried, env=env, check=False, capture_output=True, timeout=HANG_S)
        if done.returncode == 0:
            return python
    pytest.skip(f"user {user} can run no interpreter with taskqd's dependencies here")


def test_the_pid_file_is_there_while_the_daemon_is_and_a_stale_one_is_replaced(
    folder: Path,
) -> None:
    file = folder / "pid"
    file.write_text("1\n")
    words = ("--pidfile", str(file), "--health", "off")
    with command(folder / "a", *words) as daemon:
        daemon.wait("master.ready")
        assert file.read_text() == f"{daemon.pid}\n"
        with command(folder / "b", *words) as second:
            assert second.exit_code() == 78
            assert f"held by a daemon that runs (pid {daemon.pid})" in second.log_text()
        assert file.read_text() == f"{daemon.pid}\n"
        daemon.send("SIGKILL")
        daemon.exit_code()
        wait_until(lambda: not daemon.alive(), what="its workers to go")
    with command(folder / "c", *words) as third:
        third.wait("master.ready")
        assert file.read_text() == f"{third.pid}\n"
        assert third.stop() == 0
    assert not file.exists()
    assert {path.name for path in folder.iterdir()} == {"a", "b", "c"}


def test_a_pid_file_that_cannot_be_written_is_an_error_of_configuration(folder: Path) -> None:
    with command(folder / "a", "--pidfile", "/nowhere/pid", "--health", "off") as daemon:
        assert daemon.exit_code() == 78
        assert "process.pidfile: /nowhere/pid: cannot be written" in daemon.log_text()


@needs_root
def test_the_daemon_and_its_jobs_run_as_the_user_that_was_asked_for(folder: Path) -> None:
    account = pwd.getpwnam("nobody")
    words = ("--user", "nobody", "--umask", "027", "--pidfile", "pid", "--health", "off")
    daemon = command(folder / "a", *words, python=python_of("nobody"))
    os.chown(daemon.folder, account.pw_uid, account.pw_gid)
    with daemon:
        daemon.wait("master.ready")
        for process in daemon.alive():
            assert set(process.uids()) == {account.pw_uid}
            assert set(process.gids()) == {account.pw_gid}
        assert who(daemon.folder) == [
            account.pw_uid,
            account.pw_gid,
            sorted(os.getgrouplist("nobody", account.pw_gid)),
            0o027,
            account.pw_dir,
        ]
        made = daemon.folder / "pid"
        assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (account.pw_uid, 0o640)
        assert daemon.stop() == 0


def who(folder: Path) -> list[object]:
    from taskqd import App

    app = App("shop", f"sqlite:///{folder}/shop.db")
    try:
        return app.task(name="who")(list)().get(timeout=HANG_S)
    finally:
        app.close()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--user", "nobodyy"), 'process.user: "nobodyy": there is no such user'),
        (("--group", "nogroupp"), 'process.group: "nogroupp": there is no such group'),
        (("--umask", "9"), '--umask: process.umask: "9": expected octal digits'),
    ],
)
def test_an_identity_that_cannot_be_had_is_an_error_of_configuration(
    folder: Path, words: tuple[str, ...], error: str
) -> None:
    with command(folder / "a", *words) as daemon:
        assert daemon.exit_code() == 78
        assert error in daemon.log_text()


@needs_root
def test_who_is_not_root_cannot_become_another(folder: Path) -> None:
    daemon = command(folder / "a", "--user", "root", python=python_of("nobody"))
    daemon._argv = ["setpriv", "--reuid=nobody", "--clear-groups", "env", *daemon._argv]
    with daemon:
        assert daemon.exit_code() == 78
        assert "only root can become another user" in daemon.log_text()


def test_a_second_daemon_on_a_host_did_not_start_although_nobody_chose_the_address(
    folder: Path,
) -> None:
    with taken("127.0.0.1", 7430), command(folder / "a") as daemon:
        daemon.wait("master.ready")
        moved = daemon.wait("health.moved")
        assert moved["wanted"] == "127.0.0.1:7430"
        address = daemon.ask("status")["health"]
        assert f"health http://{address}" in "\n".join(_status_lines(daemon.ask("status")))
        assert address == moved["address"] != "127.0.0.1:7430"
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=HANG_S) as answer:
            assert answer.status == 200
        assert daemon.stop() == 0


def test_an_address_that_was_chosen_and_is_taken_ends_the_daemon(folder: Path) -> None:
    with (
        taken("127.0.0.1", 7430),
        command(folder / "a", "--health", "127.0.0.1:7430") as daemon,
    ):
        assert daemon.exit_code() == 78
        assert "cannot listen on 127.0.0.1:7430" in daemon.log_text()


def taken(host: str, port: int) -> socket.socket:
    """Listen there, together with other runs of this suite; a daemon of theirs may have it first."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def is_ours() -> bool:
        with contextlib.suppress(OSError):
            sock.bind((host, port))
            sock.listen()
            return True
        return False

    wait_until(is_ours, f"port {port} to be free")
    return sock

"""taskqctl top over a running master: once, and live in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.rigs.ctl import MAIN, ROOT, taskqctl
from tests.support.rigs.daemon import Daemon, fake_daemon
from tests.support.waiting import HANG_S


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with fake_daemon(tmp_path, {"worker": ["busy"]}, shutdown={"grace_s": 0.5}) as running:
        running.wait("master.ready")
        yield running


def test_once_prints_what_the_daemon_does(daemon: Daemon) -> None:
    words = ("top", "--once", "--interval", "0.3", "--socket", daemon.socket)
    done = taskqctl(daemon.folder, *words)
    assert done.code == 0
    assert "workers 2 of 2 ready, 2 busy" in done.out
    assert "shop.slow" in done.out
    assert re.search(r"^default +3 +1 +0 +2$", done.out, re.MULTILINE), done.out
    facts = taskqctl(daemon.folder, *words, "--json").json()
    assert facts["rates"]["done"] == 0.0
    assert all(row["pss_bytes"] > 1e6 and row["cpu_s"] >= 0 for row in facts["workers"])
    assert facts["depths"][0]["queue"] == "default"


def test_no_terminal_means_once_and_no_daemon_means_69(daemon: Daemon, tmp_path: Path) -> None:
    done = taskqctl(daemon.folder, "top", "--interval", "0.1", "--socket", daemon.socket)
    assert (done.code, "\x1b" in done.out) == (0, False)
    assert taskqctl(tmp_path, "top", "--socket", f"{tmp_path}/none.sock").code == 69


class Terminal:
    """A terminal with `top` in it, and what has been shown so far."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self.fd = fd
        self.process = process
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def until(self, pattern: str) -> str:
        """Wait until this is shown; return all that came since the last call."""
        deadline_s = time.monotonic() + HANG_S
        while not re.search(pattern, self.shown, re.DOTALL):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"never shown: {pattern!r} in {self.shown!r}"
            if select.select([self.fd], [], [], left_s)[0]:
                try:
                    self.shown += os.read(self.fd, 65536).decode()
                except OSError:  # its other end is closed
                    assert re.search(pattern, self.shown, re.DOTALL), self.shown
        shown, self.shown = self.shown, ""
        return shown


def resize(fd: int, columns: int, lines: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))


@contextmanager
def terminal(daemon: Daemon) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    words = ["top", "--interval", "0.2", "--socket", daemon.socket]
    resize(ours, 100, 30)
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.setsid(); {MAIN}", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        cwd=daemon.folder,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_live_it_refreshes_follows_the_size_and_q_gives_the_terminal_back(daemon: Daemon) -> None:
    with terminal(daemon) as screen:
        assert screen.until("shop.slow.*q quits").startswith("\x1b[?1049h")
        assert "PSS MB" in screen.until(r"DONE/S.*0\.0.*q quits")
        resize(screen.fd, 40, 8)
        os.kill(screen.process.pid, signal.SIGWINCH)
        narrow = screen.until("more lines.*q quits\x1b\\[0m\x1b\\[K\x1b\\[J")
        assert "WORKER" in narrow.rpartition("\x1b[H")[2]
        assert "PSS MB" not in narrow.rpartition("\x1b[H")[2]
        screen.type("q")
        screen.until(re.escape("\x1b[?25h\x1b[?1049l"))
        assert screen.process.wait(HANG_S) == 0


def test_live_it_outlasts_the_daemon_and_says_so(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.wait("master.ready")
        with terminal(daemon) as screen:
            screen.until("q quits")
            assert daemon.stop() == 0
            screen.until("no daemon answers")
            screen.process.send_signal(signal.SIGTERM)
            screen.until(re.escape("\x1b[?1049l"))
            assert screen.process.wait(HANG_S) == 0

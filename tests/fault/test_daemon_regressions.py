"""Defects of the daemon that chaos has found, each by what went wrong."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from tests.support.daemon import WAIT_S, Daemon

APP = """
from taskqd import App
app = App("regress")
"""


def daemon_of(folder: Path, *flags: str, app: str = APP) -> Daemon:
    """Return a daemon of an app of its own, on SQLite."""
    (folder / "regress.py").write_text(app)
    argv = ["taskqd", "regress:app", "--health", "off", "--log-format", "json", *flags]
    env = {
        "TASKQD_STORAGE": f"sqlite:///{folder}/regress.db",
        "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
    }
    return Daemon(folder, [sys.executable, "-m", *argv], env=env)


def test_a_signal_while_the_interpreter_ended_turned_exit_0_into_a_death_by_signal(
    tmp_path: Path,
) -> None:
    with daemon_of(tmp_path, "--workers", "1") as daemon:
        daemon.wait("master.ready")
        daemon.send("SIGTERM")
        until_s = time.monotonic() + WAIT_S
        while daemon.process and daemon.process.poll() is None and time.monotonic() < until_s:
            with contextlib.suppress(ProcessLookupError):
                daemon.send("SIGTERM")
            time.sleep(0.0005)
        assert daemon.exit_code() == 0

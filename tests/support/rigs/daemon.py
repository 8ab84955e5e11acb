"""A real daemon under test: started in a folder of its own, followed by its log, never left over.

Waiting is for log events, with a deadline.  When a test fails, the log is printed and the folder
kept.  Every process of a daemon works in the daemon's own folder, so one that it leaves behind is
found, whoever its parent is by then (a mark in the environment would not do: process titles are
written over it).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from taskqd.supervisor.endpoints import admin_client
from tests.support.waiting import HANG_S, wait_until

ROOT = Path(__file__).parents[3]
REAPED_S = 20.0
"""Processes whose master is gone end within so long, also on a machine that others load."""
Fact = dict[str, Any]


class Daemon:
    """A process of `argv` and all that descends from it."""

    def __init__(
        self,
        folder: Path,
        argv: Sequence[str],
        *,
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log.jsonl"
        self.socket = str(folder / "admin.sock")
        self._argv = list(argv)
        self._env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "PYTHONFAULTHANDLER": "1",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._read = 0

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> Daemon:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, name: str) -> None:
        os.kill(self.pid, signal.Signals[name])

    def exit_code(self, timeout_s: float = HANG_S) -> int:
        """Wait for the end and return the exit code (minus the signal's number)."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self, timeout_s: float = HANG_S) -> int:
        self.send("SIGTERM")
        return self.exit_code(timeout_s)

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        leftovers = self._end()
        if kind is not None:
            print(f"--- {self.log_path} ---\n{self.log_text()}", file=sys.stderr)
        else:
            assert not leftovers, f"left behind: {leftovers}"

    def _end(self) -> list[str]:
        """Kill what still runs; return what ran on although the master was gone."""
        leftovers = []
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(HANG_S)
            wait_until(lambda: not self.alive(), timeout_s=REAPED_S, failing=False)
        else:
            wait_until(lambda: not self.alive(), timeout_s=REAPED_S, failing=False)
            leftovers = [f"{p.pid} {p}" for p in self.alive()]
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return leftovers

    # -- processes -----------------------------------------------------------------------------

    def alive(self) -> list[psutil.Process]:
        """Return every living process that this daemon ever started."""
        found = []
        for pid in psutil.pids():
            try:
                process = psutil.Process(pid)
                ours = os.readlink(f"/proc/{pid}/cwd") == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, psutil.NoSuchProcess):
                continue
        return found

    def no_process_is_left(self) -> bool:
        return wait_until(lambda: not self.alive(), failing=False)

    # -- log -----------------------------------------------------------------------------------

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def events(self, name: str = "", **facts: Any) -> list[Fact]:
        """Return the events logged so far that have this name and these facts."""
        return [e for e in self._lines() if (not name or e["event"] == name) and _has(e, facts)]

    def wait_stack(self, hung: Fact) -> str:
        """Wait for the stacks of a worker that hung and return them.

        They come with `worker.hung`, or by themselves where it took long to write them.
        """
        if hung["stack"]:
            return str(hung["stack"])
        return str(self.wait("worker.stacks", worker=hung["worker"])["stack"])

    def _lines(self) -> Iterator[Fact]:
        for line in self.log_text().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event

    def wait(self, name: str, *, count: int = 1, timeout_s: float = HANG_S, **facts: Any) -> Fact:
        """Wait until `count` such events are in the log; return the last of these."""
        until_s = time.monotonic() + timeout_s
        while len(found := self.events(name, **facts)) < count:
            if self.process is not None and self.process.poll() is not None:
                found = self.events(name, **facts)
                if len(found) >= count:
                    break
                raise AssertionError(
                    f"the daemon exited with {self.process.returncode} before {name} {facts}",
                )
            if time.monotonic() > until_s:
                raise AssertionError(f"no {name} {facts} within {timeout_s} s")
            time.sleep(0.01)
        return found[count - 1]

    # -- admin socket --------------------------------------------------------------------------

    def ask(self, cmd: str, **facts: Any) -> Fact:
        return admin_client.ask(self.socket, {"cmd": cmd, **facts}, timeout_s=HANG_S)

    def health_port(self) -> int:
        """Return the port that it has chosen where it was told `HOST:0`."""
        return int(self.ask("status")["health"].rpartition(":")[2])

    def worker_pids(self) -> list[int]:
        return [row["pid"] for row in self.ask("status")["workers"] if row.get("pid")]


def _has(event: Fact, facts: Fact) -> bool:
    return all(event.get(key) == value for key, value in facts.items())


def settings_json(folder: Path, **changes: Any) -> str:
    """Return settings for a small quiet daemon in `folder`, as JSON; sections are merged."""
    chosen: dict[str, Any] = {
        "app": "shop:app",
        "name": "test",
        "workers": {"count": 2},
        "health": {"bind": None},
        "admin": {"socket": str(folder / "admin.sock")},
        "shutdown": {"grace_s": 6},
        "log": {"format": "json", "level": "debug"},
    }
    for key, value in changes.items():
        merged = isinstance(value, dict) and isinstance(chosen.get(key), dict)
        chosen[key] = {**chosen[key], **value} if merged else value
    return json.dumps(chosen)


def fake_daemon(folder: Path, fake: Fact | None = None, **changes: Any) -> Daemon:
    """Return a real master over `tests.support.rigs.fake_zygote`; `fake` is what that one is told."""
    env = {
        "FAKE": json.dumps(fake or {}),
        "FAKE_LEDGER": str(folder / "ledger.jsonl"),
        "FAKE_BOOTS": str(folder / "boots") if (fake or {}).get("first_only") else "",
    }
    argv = [sys.executable, "-m", "tests.support.rigs.run_master", settings_json(folder, **changes)]
    return Daemon(folder, argv, env=env)


def heard(folder: Path, role: str, kind: str) -> list[Fact]:
    """Return the messages of one kind that fake children of one role have written down."""
    path = folder / "ledger.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [message for who, message in found if who == role and message["m"] == kind]

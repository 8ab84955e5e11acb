"""The world of one run: a storage, a daemon, clients, and what can be seen of them from outside.

Everything lives in one private folder.  Processes of the daemon are found by the log that they all
write to, because titles overwrite their environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tests.chaos.apps.workload import LEDGER_ENV, NAMESPACE
from tests.chaos.faults import failpoints
from tests.chaos.ledger import CLIENTS, JOBS, Line
from tests.support.rigs.daemon import ROOT, Daemon
from tests.support.servers.redis_server import RedisServer, available_servers
from tests.support.servers.unruly_proxy import UnrulyProxy

LEASE_S = 5.0
GRACE_S = 6.0
WAIT_S = 60.0
TAIL_BYTES = 32 * 1024


class Broke(Exception):
    """The system under test did what no fault excuses, or a fault could not be injected."""


class World:
    def __init__(
        self,
        folder: Path,
        *,
        storage: str = "sqlite",
        kind: str = "process",
        workers: int = 4,
        fsync: str = "always",
        rate: float = 50.0,
        seed: int = 0,
        level: str = "debug",
    ) -> None:
        """`storage`: "sqlite", "redis" or "valkey"; `kind`: of the workers; `rate`: jobs that each
        client enqueues in a second.
        """
        self.folder = folder
        self.storage = storage
        self.kind = kind
        self.fsync = fsync
        self.workers = workers
        self.rate = rate
        self.server = self._server() if storage != "sqlite" else None
        self.url = self.server.url if self.server else f"sqlite:///{folder}/chaos.db"
        self.proxy: UnrulyProxy | None = None
        """Through which the daemon reaches its server; clients and neighbours go past it."""
        self.daemon: Daemon | None = None
        self.neighbour: Daemon | None = None
        """A second daemon on the same storage, to which no fault is done."""
        self.former: set[int] = set()
        """Processes of killed masters, which end by themselves beside the next daemon."""
        self.clients: list[subprocess.Popen[bytes]] = []
        self.failpoints = folder / "steps"
        """Where processes of the daemon look for what to do to themselves; see failpoints.py."""
        self.seed = seed
        self._level = level
        self._client_seed = seed * 1000
        self._log = folder / "daemon" / "log.jsonl"
        self._neighbours_log = folder / "neighbour" / "log.jsonl"
        self._log_from = 0
        """Where in it this daemon's lines begin (and those of a killed one's children go on)."""

    def _server(self) -> RedisServer:
        binary = available_servers().get(self.storage)
        if binary is None:
            raise Broke(f"no {self.storage} server on this machine")
        return RedisServer(binary, self.folder / "server", appendfsync=self.fsync)

    # -- life ----------------------------------------------------------------------------------

    def __enter__(self) -> World:
        self.failpoints.mkdir(parents=True, exist_ok=True)
        self._outside = os.environ.get("TASKQD_STORAGE")
        os.environ["TASKQD_STORAGE"] = self.url
        if self.server:
            self.server.start()
            self.proxy = UnrulyProxy(self.server.socket).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left, whatever happened."""
        for process in self.clients:
            process.kill()
            process.wait()
        for pid in [*self.pids(), *self.pids(self._neighbours_log)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in (self.daemon, self.neighbour):
            if daemon and daemon.process:
                daemon.process.wait()
        if self.proxy:
            self.proxy.__exit__()
        if self.server:
            self.server.stop()
        # The tests that follow in this process have storages of their own.
        os.environ.pop("TASKQD_STORAGE", None)
        if self._outside is not None:
            os.environ["TASKQD_STORAGE"] = self._outside

    def start_daemon(self, *flags: str) -> Daemon:
        """Start a daemon; its log goes on where the last one's ended."""
        self._log_from = self._log.stat().st_size if self._log.exists() else 0
        self.daemon = self._daemon(self._log, *flags)
        return self.daemon.start()

    def start_neighbour(self) -> Daemon:
        self.neighbour = self._daemon(self._neighbours_log, "--name", "neighbour")
        return self.neighbour.start()

    def _daemon(self, log: Path, *flags: str) -> Daemon:
        argv = [sys.executable, "-m", "taskqd", "tests.chaos.apps.workload:app"]
        argv += ["--workers", str(self.workers), "--worker-type", self.kind]
        argv += ["--grace", str(GRACE_S), "--health", "off", "--log-format", "json", *flags]
        if self.kind != "process":
            argv += ["--concurrency", "8"]
        env = {
            "TASKQD_STORAGE": self.proxy.url if self.proxy else self.url,
            "TASKQD_STORAGE__NODE_LEASE_S": str(LEASE_S),
            "TASKQD_LOG__LEVEL": self._level,
            "TASKQD_ADMIN__SOCKET": str(log.with_name("admin.sock")),
            LEDGER_ENV: str(self.folder / JOBS),
            failpoints.ENV: str(self.failpoints),
        }
        return Daemon(log.parent, argv, env=env)

    def start_client(self) -> None:
        self._client_seed += 1
        argv = [sys.executable, "-m", "tests.chaos.client", "--rate", str(self.rate)]
        argv += ["--seed", str(self._client_seed), "--ledger", str(self.folder / CLIENTS)]
        env = {**os.environ, "TASKQD_STORAGE": self.url, "PYTHONPATH": str(ROOT)}
        with (self.folder / "clients.log").open("ab") as log:
            self.clients.append(subprocess.Popen(argv, env=env, cwd=self.folder, stderr=log))

    def stop_clients(self) -> None:
        for process in self.clients:
            process.terminate()
        for process in self.clients:
            process.wait(60)
        codes = [process.returncode for process in self.clients]
        self.clients = []
        if any(code not in (0, -signal.SIGTERM) for code in codes):
            raise Broke(f"clients ended with {codes}; see {self.folder}/clients.log")

    # -- what can be seen ----------------------------------------------------------------------

    @property
    def master(self) -> int:
        if self.daemon is None:
            raise Broke("there is no daemon")
        return self.daemon.pid

    def pids(self, log: Path | None = None) -> list[int]:
        """Return every living process that writes to the daemon's log, jobs' children included."""
        wanted = str(log or self._log)
        return [pid for pid in psutil.pids() if _log_of(pid) == wanted and alive(pid)]

    def neighbours(self) -> list[int]:
        return self.pids(self._neighbours_log)

    def role(self, role: str) -> list[int]:
        """Return the living children of the master that have this role, by their titles."""
        try:
            children = psutil.Process(self.master).children()
        except psutil.NoSuchProcess:
            return []
        return sorted(
            child.pid for child in children if _title(child).startswith(f"taskqd: {role}")
        )

    def busy(self) -> set[int]:
        """Return the processes that are in the middle of a job, by the end of the ledger."""
        path = self.folder / JOBS
        if not path.exists():
            return set()
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = file.read()
        last = dict(_pid_and_event(line) for line in tail.splitlines()[1:] if line)
        return {pid for pid, event in last.items() if event == "begin"}

    def began(self, event: str = "master.started") -> bool:
        """Return whether this daemon has said that it starts (or serves: "master.ready")."""
        with self._log.open("rb") as log:
            log.seek(self._log_from)
            return f'"event":"{event}"'.encode() in log.read(TAIL_BYTES)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names in the logs, which are long."""
        needles = [f'"event":"{name}"'.encode() for name in names]
        lines = (line for log in (self._log, self._neighbours_log) for line in _lines_of(log))
        return [
            msgspec.json.decode(line)
            for line in lines
            if line.endswith(b"\n") and any(needle in line for needle in needles)
        ]


def _lines_of(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as lines:
            yield from lines


def _log_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/2")
    except OSError:
        return ""


def _pid_and_event(line: bytes) -> tuple[int, str]:
    try:
        found = msgspec.json.decode(line, type=Line)
    except msgspec.DecodeError:
        return 0, ""
    return found.pid, found.e


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def state(pid: int) -> str:
    """Return the process's state as in /proc: R, S, D, T, Z...; "" if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def alive(pid: int) -> bool:
    return state(pid) not in ("", "Z", "X")


def wait_for(true: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    until_s = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > until_s:
            raise Broke(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.005)


def all_dead(pids: Sequence[int]) -> bool:
    return not any(map(alive, pids))


__all__ = [
    "GRACE_S",
    "LEASE_S",
    "NAMESPACE",
    "Broke",
    "World",
    "alive",
    "all_dead",
    "state",
    "wait_for",
]

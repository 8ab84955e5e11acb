"""The facts that the checks of `taskqctl doctor` look at, and their findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail", "skip"]

FORK_UNSAFE = {
    "grpc": "gRPC's channels do not survive a fork; open them in on_startup",
    "confluent_kafka": "its clients run threads; make them in on_startup",
    "pyspark": "its gateway is a connected socket; open it in on_startup",
    "ray": "its driver is a connected process; call init in on_startup",
    "torch": "CUDA cannot be used in a forked child once it was in its parent",
    "tensorflow": "its runtime has threads once it was used; use it in tasks only",
}
"""Module -> remark on its use in a process that forks."""


class Finding(NamedTuple):
    check: str
    verdict: Verdict
    text: str
    remedy: str = ""


class Parent(NamedTuple):
    pid: int
    """As its own namespace counts: 1 is the first process of a container."""
    name: str
    arguments: int
    terminal: bool
    """The daemon is at a terminal: somebody has started it by hand."""


class Daemon(NamedTuple):
    """A daemon that runs on this host and answers."""

    pid: int
    """As its own namespace counts."""
    grace_s: float
    workers: int
    slots: int
    longest_run_s: float
    parent: Parent | None = None
    unsafe: tuple[str, ...] = ()
    nofile: float = math.inf
    socket_mode: int = 0o600
    folder_mode: int = 0o700


class Manager(NamedTuple):
    """The service manager that stops the daemon, as far as it can be seen."""

    unit: str = ""
    stop_s: float | None = None
    """systemd's TimeoutStopSec."""
    notify: bool = False
    """Whether the daemon may extend `stop_s` by sd_notify."""
    pod: bool = False
    pod_grace_s: float | None = None


class ControlGroup(NamedTuple):
    """The daemon's control group; inf: unlimited."""

    memory_max: float = math.inf
    memory_used: int = 0
    pids_max: float = math.inf
    pids_used: int = 0
    cpus: float = math.inf


class File(NamedTuple):
    """The database file of a SQLite storage."""

    path: str
    file_system: str
    network: bool
    wal: bool
    synchronous: str
    free_bytes: int


class Store(NamedTuple):
    url: str
    error: str = ""
    warnings: Sequence[str] = ()
    skew_s: float = 0.0
    """How far the storage's clock is ahead of ours."""
    doubt_s: float = 0.0
    """Half of the time that asking took."""
    file: File | None = None
    namesakes: Sequence[str] = ()
    """Nodes that share one name, each of which holds a lease."""


class Tasks(NamedTuple):
    """Facts about the tasks that the app declares."""

    longest: str = ""
    longest_s: float = 0.0
    libraries: tuple[str, ...] = ()
    """Modules of `FORK_UNSAFE` that importing the app has loaded."""


class Facts(NamedTuple):
    daemon: Daemon | None = None
    daemon_error: str = ""
    manager: Manager = Manager()
    group: ControlGroup | None = None
    store: Store | None = None
    tasks: Tasks | None = None
    grace_s: float = 25.0
    """The grace as configured; that of a running daemon takes precedence."""


Found = Finding | None
"""None: what the check needs cannot be seen."""


def limit(value: float) -> str:
    return "unlimited" if value == math.inf else f"{value:.0f}"

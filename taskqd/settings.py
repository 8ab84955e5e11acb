"""Settings: what one daemon is told to be.

Pure values: this module reads no file and no environment.  `taskqd.config` produces a `Settings`
from flags, environment, file and defaults; master, zygote, workers and scheduler read it.  It
travels to child processes as JSON (`encode` / `decode`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

WorkerType = Literal["process", "thread", "greenlet", "asyncio"]
Durability = Literal["memory", "local", "replica"]
Fork = Literal["safe", "always", "never"]
"""When workers are forked from the zygote; else they are new interpreters."""
Missed = Literal["skip", "once", "all"]
LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

MIB = 1024 * 1024


class ProcessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As whom the daemon runs; None: as who has started it."""

    user: str | None = None
    group: str | None = None
    """None: that of the user."""
    umask: int | None = None
    pidfile: str | None = None


class StorageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None
    """None: the app's own storage decides."""
    connect_wait_s: float = 30.0
    node_lease_s: float = 10.0
    durability: Durability | None = None
    """None: the strongest the server is configured for; see docs/durability.md."""
    allow_eviction: bool = False
    """Start even where Redis may evict keys (an evicting `maxmemory-policy` loses jobs)."""


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: int = 0
    """0 stands for "auto": what affinity and the cgroup's CPU quota allow."""
    type: WorkerType = "process"
    concurrency: int = 0
    """Slots in each worker; 0 stands for the kind's default (process 1, thread 10, others 100)."""
    max_jobs: int | None = None
    max_memory_bytes: int | None = None
    max_age_s: float | None = None
    memory_limit_bytes: int | None = None
    nice: int = 0
    fork: Fork = "safe"


class QueueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names: tuple[str, ...] = ()
    """Empty: every queue that the app's tasks name."""
    weights: dict[str, int] = {}
    """Queue -> weight.  Empty: strict order, as listed in `names`."""


class ShutdownSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    grace_s: float = 25.0


class SchedulerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool = True
    timezone: str | None = None
    missed: Missed = "skip"


class HealthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bind: str | None = "127.0.0.1:7430"
    """HOST:PORT, or None for off."""


class AdminSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    socket: str | None = None
    """None: `<instance>.sock` in $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/taskqd or a private folder."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: LogLevel = "info"
    format: LogFormat = "auto"
    file: str | None = None
    arguments: bool = False
    """Log the arguments of jobs.  Off: they may hold secrets."""


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload_bytes_max: int = 1 * MIB
    result_bytes_max: int = 1 * MIB
    dead_ttl_s: int = 90 * 86400
    dead_max: int = 10_000
    memory_recycle_percent: int | None = 80
    memory_hold_percent: int | None = 90
    memory_stop_percent: int | None = 95
    unknown_patience_s: float = 60.0
    """How long the callers of a job whose task no worker knows wait on, in case one appears."""


class CryptoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Empty: those of the app."""

    signing_keys: tuple[str, ...] = ()
    encryption_keys: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app: str = ""
    """`module:attribute` (a dot works too)."""
    name: str | None = None
    """The instance's name in titles, logs and the admin socket; None: the app's name."""
    burst: bool = False
    """End when every queue is empty."""
    reload: bool = False
    """Watch source files and reload (development)."""
    process: ProcessSettings = ProcessSettings()
    storage: StorageSettings = StorageSettings()
    workers: WorkerSettings = WorkerSettings()
    queues: QueueSettings = QueueSettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    health: HealthSettings = HealthSettings()
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()
    limits: LimitSettings = LimitSettings()
    crypto: CryptoSettings = CryptoSettings()


_DEFAULT_CONCURRENCY: dict[WorkerType, int] = {
    "process": 1,
    "thread": 10,
    "greenlet": 100,
    "asyncio": 100,
}


def slots_per_worker(workers: WorkerSettings) -> int:
    """Return how many jobs one worker runs at once; a process worker is one slot by nature."""
    if workers.type == "process":
        return 1
    return workers.concurrency or _DEFAULT_CONCURRENCY[workers.type]


def encode(settings: Settings) -> str:
    return msgspec.json.encode(settings).decode()


def decode(text: str) -> Settings:
    return msgspec.json.decode(text, type=Settings)

"""The catalogue of configuration keys, one line each, from which file, flags and docs follow.

File, environment, flags, `config show` and docs/configuration.md all read this table; a test holds
it equal to the fields of `taskqd.settings.Settings`.  Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from taskqd.settings import MIB

from . import forms
from .values import Kind, choice, duration, size, switch, text, whole, whole_duration

COUNT_MAX = 512
DAY_S = 86400


class Key(NamedTuple):
    path: str
    """Dotted, as in the file: ``workers.max_memory``."""
    kind: Kind
    about: str
    flag: str = ""
    short_env: str = ""
    field: str = ""
    """Path of the field in `Settings`, if it is not `path`."""
    credential: str = ""
    """Name under ``$CREDENTIALS_DIRECTORY``; given to keys that can hold a secret."""
    secret: bool = False
    """Whether the whole value is a secret, which is never shown."""

    @property
    def env(self) -> str:
        return "TASKQD_" + self.path.upper().replace(".", "__")

    @property
    def target(self) -> str:
        return self.field or self.path


_KEYS = (
    Key("app", forms.APP, "The application: an `App` in a module that can be imported.", "APP"),
    Key(
        "name",
        forms.NAME,
        "This instance's name in titles, logs and the admin socket. Default: the app's name.",
        "--name",
    ),
    Key("burst", switch(), "End when every queue is empty.", "--burst"),
    Key("reload", switch(), "Watch source files and reload (development).", "--reload"),
    Key(
        "process.user",
        forms.ACCOUNT,
        "Become this user before anything is opened; needs root. Default: who has started it.",
        "--user",
    ),
    Key("process.group", forms.ACCOUNT, "Become this group. Default: the user's.", "--group"),
    Key(
        "process.umask", forms.UMASK, "Mode bits that files made by jobs shall not have.", "--umask"
    ),
    Key(
        "process.pidfile",
        text("a path"),
        "Hold this file, locked and with the master's pid in it, while the daemon runs.",
        "--pidfile",
    ),
    Key(
        "storage.url",
        forms.URL,
        "Where jobs are kept. Default: the storage that the app names.",
        "--storage",
        "TASKQD_STORAGE",
        credential="storage_url",
    ),
    Key(
        "storage.connect_wait_s",
        duration(0, DAY_S),
        "How long a start waits for a storage that cannot be reached.",
    ),
    Key(
        "storage.node_lease_s",
        duration(1, 3600),
        "After so long without a heartbeat a node is dead and its jobs are recovered.",
    ),
    Key(
        "storage.durability",
        choice("memory", "local", "replica"),
        "What a confirmed enqueue has survived. Default: the strongest that the server offers.",
    ),
    Key(
        "storage.allow_eviction",
        switch(),
        "Start even where Redis may evict keys, which loses jobs.",
    ),
    Key(
        "workers.count",
        whole(1, COUNT_MAX, auto=0),
        "Worker processes. `auto`: the processors that affinity and the cgroup's quota allow.",
        "--workers",
        "TASKQD_WORKERS",
    ),
    Key(
        "workers.type",
        choice("process", "thread", "greenlet", "asyncio"),
        "How a worker runs jobs: one in the process itself, or several in threads, greenlets, "
        "coroutines.",
        "--worker-type",
    ),
    Key(
        "workers.concurrency",
        whole(1, 1000, auto=0),
        "Jobs that one worker runs at once. `auto`: 1 for process, 10 for thread, 100 for others.",
        "--concurrency",
    ),
    Key(
        "workers.max_jobs",
        whole(1, off=None),
        "Replace a worker after so many jobs.",
    ),
    Key(
        "workers.max_memory",
        size(16 * MIB, off=None),
        "Replace a worker that has grown over this (PSS).",
        field="workers.max_memory_bytes",
    ),
    Key(
        "workers.memory_limit",
        size(16 * MIB, off=None),
        "Give each worker a control group of its own with this limit, where that is allowed "
        "(systemd: `Delegate=yes`).",
        field="workers.memory_limit_bytes",
    ),
    Key(
        "workers.max_age_s",
        duration(1, off=None),
        "Replace a worker of this age.",
    ),
    Key(
        "workers.fork",
        choice("safe", "always", "never"),
        "Fork workers from the process that has imported the app: unless threads would be lost by it, "
        "always, or never. Those that are not forked import the app themselves.",
    ),
    Key("workers.nice", whole(-20, 19), "Added to the niceness of workers."),
    Key(
        "queues.names",
        forms.QUEUES,
        "Queues to serve, in strict order unless weights are given. Default: all that the app's "
        "tasks name.",
        "--queues",
    ),
    Key("queues.weights", forms.WEIGHTS, "Share of each queue. Default: strict order."),
    Key(
        "shutdown.grace_s",
        duration(0, DAY_S),
        "Time for running jobs to finish when the daemon stops; then they are requeued.",
        "--grace",
    ),
    Key("scheduler.enabled", switch(), "Fire periodic tasks.", "--no-scheduler"),
    Key(
        "scheduler.timezone",
        forms.TIME_ZONE,
        "Zone of periodic tasks that name none. Default: the app's.",
    ),
    Key(
        "scheduler.missed",
        choice("skip", "once", "all"),
        "Ticks missed while no daemon ran: none, one, or all of them are fired.",
    ),
    Key(
        "health.bind",
        forms.ADDRESS,
        "Address of the health and metrics endpoint. Where nobody has set it and it is taken, a free "
        "port serves, which `status` shows.",
        "--health",
    ),
    Key(
        "admin.socket",
        forms.SOCKET,
        "Path of the admin socket. Default: `<instance>.sock` in `$RUNTIME_DIRECTORY`, "
        "`$XDG_RUNTIME_DIR/taskqd` or a private folder.",
    ),
    Key(
        "log.level",
        choice("debug", "info", "warning", "error", "critical"),
        "The least level that is written.",
        "--log-level",
    ),
    Key(
        "log.format",
        choice("auto", "console", "json"),
        "`auto`: console on a terminal, else JSON.",
        "--log-format",
    ),
    Key("log.file", text("a path"), "Write to this file. Default: standard error."),
    Key("log.arguments", switch(), "Log the arguments of jobs; they may hold secrets."),
    Key(
        "limits.payload_bytes_max",
        size(1024, 512 * MIB),
        "The largest encoded job that is accepted.",
    ),
    Key("limits.result_bytes_max", size(1024, 512 * MIB), "The largest encoded result."),
    Key("limits.dead_ttl_s", whole_duration(1), "How long dead letters are kept."),
    Key("limits.dead_max", whole(0), "How many dead letters are kept."),
    Key(
        "limits.memory_recycle_percent",
        whole(1, 100, off=None),
        "At so much of the control group's memory limit the largest idle worker is replaced.",
    ),
    Key(
        "limits.memory_hold_percent",
        whole(1, 100, off=None),
        "At so much of it only one worker takes jobs, one at a time.",
    ),
    Key(
        "limits.memory_stop_percent",
        whole(1, 100, off=None),
        "At so much of it the largest worker is killed, before the kernel chooses one.",
    ),
    Key(
        "limits.unknown_patience_s",
        duration(0, DAY_S),
        "How long the callers of a job whose task no worker knows wait on, in case one appears.",
    ),
    Key(
        "crypto.signing_keys",
        forms.SECRETS,
        "Sign payloads with the first, verify with all. Default: those of the app.",
        credential="signing_keys",
        secret=True,
    ),
    Key(
        "crypto.encryption_keys",
        forms.SECRETS,
        "Encrypt arguments, results and checkpoints with the first, decrypt with all. Default: "
        "those of the app.",
        credential="encryption_keys",
        secret=True,
    ),
)

KEYS: dict[str, Key] = {key.path: key for key in _KEYS}
SECTIONS = tuple(dict.fromkeys(path.partition(".")[0] for path in KEYS if "." in path))

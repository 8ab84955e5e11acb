"""The catalogue of log events: every name that taskqd logs, its level, its keys.

No other module invents an event name; a test greps for it, and docs/events.md is made from here.
"""

from __future__ import annotations

from typing import NamedTuple


class LogEvent(NamedTuple):
    name: str
    level: str
    keys: tuple[str, ...] = ()


CATALOGUE: dict[str, LogEvent] = {}


def _event(name: str, level: str, *keys: str) -> str:
    CATALOGUE[name] = LogEvent(name, level, keys)
    return name


JOB = ("job_id", "task", "queue", "attempt")

MASTER_STARTED = _event("master.started", "info", "app", "workers", "worker_type", "node")
MASTER_READY = _event("master.ready", "info", "workers", "boot_ms", "admin")
MASTER_DRAINING = _event("master.draining", "info", "signal", "grace_s")
MASTER_STOPPED = _event(
    "master.stopped", "info", "exit_code", "took_s", "interrupted", "handed_back", "owed"
)
MASTER_RELOADED = _event("master.reloaded", "info", "generation", "by", "took_s")
MASTER_FAILED = _event("master.failed", "critical", "error", "exit_code", "traceback")
MASTER_QUIETED = _event("master.quieted", "info", "by")
MASTER_RESUMED = _event("master.resumed", "info", "by")
MASTER_SCALED = _event("master.scaled", "info", "workers", "by")
MASTER_SLEPT = _event("master.slept", "warning", "slept_s")
MEMORY_SHORT = _event("memory.short", "warning", "percent", "limit_mib")
MEMORY_EASED = _event("memory.eased", "info", "percent", "limit_mib")
CELLS_MISSING = _event("cells.missing", "warning", "reason")
HEALTH_MOVED = _event("health.moved", "warning", "wanted", "address")
COMMAND_REFUSED = _event("command.refused", "warning", "command", "error")
RELOAD_BEGUN = _event("reload.begun", "info", "generation", "by")
RELOAD_ROLLED_BACK = _event("reload.rolled_back", "warning", "generation", "step", "error")
RELOAD_ABORTED = _event("reload.aborted", "error", "generation", "by", "took_s", "step", "error")
CONFIG_REJECTED = _event("config.rejected", "error", "error")
CONFIG_WARNED = _event("config.warned", "warning", "text")
APP_REJECTED = _event("app.rejected", "error", "generation", "step", "error", "traceback")
MESSAGE_IGNORED = _event("message.ignored", "warning", "kind")
SIGNAL_RECEIVED = _event("signal.received", "debug", "signal")

SPAWN_FAILED = _event("spawn.failed", "error", "error")
ZYGOTE_SPAWNED = _event("zygote.spawned", "debug", "generation", "child_pid")
ZYGOTE_LOADED = _event(
    "zygote.loaded", "info", "generation", "tasks", "periodic", "queues", "import_ms", "storage"
)
ZYGOTE_EXITED = _event("zygote.exited", "warning", "generation", "child_pid", "exit_code", "signal")
ZYGOTE_KILLED = _event("zygote.killed", "warning", "generation", "reason")
ZYGOTE_UNSAFE = _event("zygote.unsafe", "warning", "generation", "offenders", "children")

WORKER_SPAWNED = _event("worker.spawned", "info", "worker", "generation", "child_pid")
WORKER_READY = _event("worker.ready", "info", "worker", "generation", "boot_ms", "loop")
WORKER_DRAINED = _event(
    "worker.drained", "info", "worker", "generation", "finished", "handed_back", "interrupted"
)
WORKER_RECYCLED = _event("worker.recycled", "info", "worker", "generation", "successor", "reason")
_EXIT = ("worker", "generation", "child_pid", "cause", "verdict", "exit_code", "signal", "uptime_s")
WORKER_EXITED = _event("worker.exited", "info", *_EXIT)
WORKER_CRASHED = _event(
    "worker.crashed", "error", *_EXIT, "jobs_held", "task", "rss_bytes_max", "cpu_s", "stack"
)
WORKER_HUNG = _event(
    "worker.hung",
    "error",
    "worker",
    "generation",
    "child_pid",
    "reason",
    "job_id",
    "task",
    "ran_s",
    "stack",
)
WORKER_DEAF = _event("worker.deaf", "error", "worker", "reason")
WORKER_KILLED = _event(
    "worker.killed", "warning", "worker", "generation", "child_pid", "signal", "reason"
)
WORKER_STACKS = _event("worker.stacks", "info", "worker", "generation", "stack")
WORKER_BOOT_FAILED = _event("worker.boot_failed", "error", "worker", "generation", "step", "error")

JOB_LEASED = _event("job.leased", "debug", "count")
JOB_ENQUEUED = _event("job.enqueued", "debug", "job_id", "task", "queue", "run_at_ms")
JOB_STARTED = _event("job.started", "debug", *JOB)
JOB_DONE = _event("job.done", "info", *JOB, "run_ms", "wait_ms")
JOB_FAILED = _event("job.failed", "error", *JOB, "run_ms", "wait_ms", "error", "traceback")
JOB_RETRIED = _event("job.retried", "warning", *JOB, "run_ms", "wait_ms", "error", "delay_s")
JOB_INTERRUPTED = _event("job.interrupted", "warning", *JOB, "interruptions")
JOB_REQUEUED = _event("job.requeued", "debug", "job_id", "queue", "reason", "delay_s")
JOB_ORPHANED = _event("job.orphaned", "warning", "job_id", "queue", "crashes", "verdict")
JOB_RECOVERED = _event("job.recovered", "info", "job_id", "queue", "how")
JOB_DEAD = _event("job.dead", "error", *JOB, "reason", "error")
JOB_PARKED = _event("job.parked", "info", *JOB)
JOB_RETURNED = _event("job.returned", "info", "task", "queue", "count")
JOB_SKIPPED = _event("job.skipped", "info", *JOB, "reason")
JOB_CANCELLED = _event("job.cancelled", "info", *JOB, "reason")
JOB_FENCED = _event("job.fenced", "warning", "job_id", "queue", "end")
JOB_UNSETTLED = _event("job.unsettled", "warning", "job_id", "queue", "end", "error")

SETTLING_BEGUN = _event("settling.begun", "warning", "count", "error")
SETTLING_OVER = _event("settling.over", "info", "most", "lasted_s")

TICK_FIRED = _event("tick.fired", "info", "task", "tick")
TICK_MISSED = _event("tick.missed", "warning", "task", "tick", "count", "reason")

SCHEDULE_REJECTED = _event("schedule.rejected", "error", "schedule", "error")

PROCESS_REAPED = _event("process.reaped", "debug", "child_pid", "exit_code")

NODE_EXPIRED = _event("node.expired", "warning", "node")
NODE_RETURNED = _event("node.returned", "info", "node", "crashes")
SCHEDULER_READY = _event("scheduler.ready", "info", "boot_ms")
SCHEDULER_REPLACED = _event("scheduler.replaced", "warning", "reason")

STORAGE_LOST = _event("storage.lost", "error", "error")
STORAGE_RESTORED = _event("storage.restored", "info", "down_s")
STORAGE_RESET = _event("storage.reset", "error", "epoch")
STORAGE_WARNING = _event("storage.warning", "warning", "text")

LOG_DROPPED = _event("log.dropped", "warning", "lines")
LOG_REOPEN_FAILED = _event("log.reopen_failed", "error", "file", "error")

HOOK_FAILED = _event("hook.failed", "error", "hook", "error", "traceback")
HOOK_SLOW = _event("hook.slow", "warning", "hook", "took_s")


def page() -> str:
    """Return docs/events.md."""
    rows = [
        f"| `{event.name}` | {event.level} | {' '.join(f'`{key}`' for key in event.keys)} |"
        for event in CATALOGUE.values()
    ]
    return "\n".join([_HEAD, *rows, ""])


_HEAD = """# Log events

Made from `taskqd/logs/events.py` by `python -m taskqd.logs.events > docs/events.md`.

One JSON object a line where standard error is not a terminal. Each has `timestamp`, `level`,
`event`, `role` and `pid`; lines of workers add `worker` and `generation`. Arguments of jobs are
not logged.

How an attempt ended (`job.done`, `job.failed`, `job.retried`, `job.dead`, `job.cancelled`, `job.skipped`,
`job.interrupted`) is logged as what it turned out to be, in the same breath in which the storage has taken
it: an end that comes too late is `job.fenced` and nothing else, and one that has to wait for its storage is
logged when it is written. A worker that is killed in just that breath may leave out the lines of what it
had just settled; `worker.crashed` names the worker. Should whatever reads the log stop reading, a process waits for it
half a second; then lines are dropped until it reads again, and `log.dropped` says how many.

| event | level | keys |
|---|---|---|"""

if __name__ == "__main__":
    import sys

    sys.stdout.write(page())

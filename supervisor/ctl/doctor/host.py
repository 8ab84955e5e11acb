"""The checks of the daemon's process, its parent process and its limits.  Pure."""

from __future__ import annotations

import math

from .facts import FORK_UNSAFE, Facts, Finding, Found, limit

SHELLS = frozenset("sh bash dash ash zsh ksh busybox fish".split())
MASTER_FDS, WORKER_FDS = 64, 64
"""Descriptors that a process has open at any load, without those of user code."""
FDS_PER_WORKER, FDS_PER_SLOT = 6, 4
MEMORY_SHARE_MAX = 0.9


def check_daemon(facts: Facts) -> Found:
    daemon = facts.daemon
    if daemon is None:
        return None
    return Finding("daemon", "ok", f"answers, {daemon.workers} workers")


def check_front(facts: Facts) -> Found:
    """Check that a SIGTERM reaches the master."""
    daemon = facts.daemon
    if daemon is None:
        return None
    if daemon.pid == 1:
        return Finding("front", "ok", "the master is PID 1: it reaps and handles signals itself")
    parent = daemon.parent
    if parent is None:
        return None
    wraps = parent.name in SHELLS and parent.arguments > 1 and not parent.terminal
    if wraps or (parent.name in SHELLS and parent.pid == 1):
        text = f"a shell ({parent.name}, pid {parent.pid}) stands in front and keeps SIGTERM for itself"
        remedy = 'start it with `exec taskqd ...`, or in exec form: ENTRYPOINT ["taskqd"]'
        return Finding("front", "fail" if parent.pid == 1 else "warn", text, remedy)
    return Finding("front", "ok", f"started by {parent.name or 'nobody'} (pid {parent.pid})")


def check_socket(facts: Facts) -> Found:
    daemon = facts.daemon
    if daemon is None:
        return None
    if daemon.socket_mode & 0o077:
        text = f"the admin socket has mode {daemon.socket_mode:04o}: others may connect"
        return Finding("socket", "fail", text, "chmod 600; the daemon makes it so by itself")
    if daemon.folder_mode & 0o022 and not daemon.folder_mode & 0o1000:
        text = f"others may replace the admin socket: its folder has mode {daemon.folder_mode:04o}"
        return Finding("socket", "fail", text, "chmod go-w the folder, or set admin.socket")
    return Finding("socket", "ok", "only its user (and root) may use the admin socket")


def check_fork(facts: Facts) -> Found:
    daemon, tasks = facts.daemon, facts.tasks
    if daemon is None and tasks is None:
        return None
    if daemon is not None and daemon.unsafe:
        text = f"importing the app left {', '.join(daemon.unsafe)}, which no fork survives"
        return Finding("fork", "warn", text, "start threads and connections in on_startup")
    if tasks is not None and tasks.libraries:
        name = tasks.libraries[0]
        return Finding("fork", "warn", f"the app imports {name}", FORK_UNSAFE[name])
    return Finding("fork", "ok", "nothing known that a fork would break")


def check_nofile(facts: Facts) -> Found:
    daemon = facts.daemon
    if daemon is None:
        return None
    needed = max(
        MASTER_FDS + FDS_PER_WORKER * daemon.workers, WORKER_FDS + FDS_PER_SLOT * daemon.slots
    )
    text = f"{limit(daemon.nofile)} open files, {needed} needed before any of the app's own"
    if daemon.nofile < needed:
        return Finding("nofile", "fail", text, _NOFILE)
    if daemon.nofile < 2 * needed:
        return Finding("nofile", "warn", text, _NOFILE)
    return Finding("nofile", "ok", text)


_NOFILE = "raise it: LimitNOFILE= in the unit, ulimit -n in the shell, or fewer workers and slots"


def check_memory(facts: Facts) -> Found:
    group = facts.group
    if group is None:
        return None
    if group.memory_max == math.inf:
        return Finding("memory", "ok", "no limit of the control group")
    share = group.memory_used / group.memory_max
    text = f"{group.memory_used / 1e6:.0f} of {group.memory_max / 1e6:.0f} MB used"
    if share > MEMORY_SHARE_MAX:
        remedy = "raise the limit, set workers.max_memory, or run fewer workers"
        return Finding("memory", "warn", text, remedy)
    return Finding("memory", "ok", text)


def check_pids(facts: Facts) -> Found:
    group, daemon = facts.group, facts.daemon
    if group is None or daemon is None:
        return None
    if group.pids_max == math.inf:
        return Finding("pids", "ok", "no limit of the control group")
    # A worker is its slots and its pump; a reload has the workers twice; master, zygotes, scheduler.
    needed = 8 + 2 * daemon.workers * (daemon.slots + 1)
    text = f"{group.pids_used} of {group.pids_max:.0f} processes and threads, up to {needed} needed"
    if group.pids_max < needed:
        return Finding("pids", "fail", text, "raise TasksMax= (systemd) or the pod's pid limit")
    return Finding("pids", "ok", text)


def check_cpu(facts: Facts) -> Found:
    group, daemon = facts.group, facts.daemon
    if group is None or daemon is None:
        return None
    if group.cpus == math.inf:
        return Finding("cpu", "ok", "no quota")
    text = f"{daemon.workers} workers on a quota of {group.cpus:g} processors"
    if daemon.workers > 4 * math.ceil(group.cpus):
        remedy = 'use fewer workers (workers.count = "auto"), or threads for jobs that wait'
        return Finding("cpu", "warn", text, remedy)
    return Finding("cpu", "ok", text)

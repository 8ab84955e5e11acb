"""The checks of `taskqctl doctor`: facts -> findings, each with a remedy.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import grace, host, store
from .facts import Facts, Finding, Found


def examine(facts: Facts) -> Iterator[Finding]:
    """Yield a finding for each check; "skip" where what it needs cannot be seen."""
    for name, check in CHECKS.items():
        found = check(facts)
        yield found or Finding(name, "skip", _why_skipped(name, facts))


def _why_skipped(name: str, facts: Facts) -> str:
    if name == "daemon":
        return facts.daemon_error or "no daemon runs here"
    if name in OF_DAEMON and facts.daemon is None:
        return "needs a daemon that runs"
    return "cannot be seen from here"


CHECKS: dict[str, Callable[[Facts], Found]] = {
    "daemon": host.check_daemon,
    "front": host.check_front,
    "socket": host.check_socket,
    "fork": host.check_fork,
    "nofile": host.check_nofile,
    "grace-jobs": grace.check_grace_of_jobs,
    "grace-manager": grace.check_grace_of_manager,
    "memory": host.check_memory,
    "pids": host.check_pids,
    "cpu": host.check_cpu,
    "storage": store.check_storage,
    "clock": store.check_clock,
    "file": store.check_file,
    "name": store.check_name,
}
OF_DAEMON = frozenset(("daemon", "front", "socket", "fork", "nofile", "memory", "pids", "cpu"))

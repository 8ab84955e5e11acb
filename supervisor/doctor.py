"""What is wrong with the surroundings of a daemon.  Pure: facts -> findings, each with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import doctor_grace, doctor_host, doctor_store
from .doctor_facts import Facts, Finding, Found


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
    "daemon": doctor_host.check_daemon,
    "front": doctor_host.check_front,
    "socket": doctor_host.check_socket,
    "fork": doctor_host.check_fork,
    "nofile": doctor_host.check_nofile,
    "grace-jobs": doctor_grace.check_grace_of_jobs,
    "grace-manager": doctor_grace.check_grace_of_manager,
    "memory": doctor_host.check_memory,
    "pids": doctor_host.check_pids,
    "cpu": doctor_host.check_cpu,
    "storage": doctor_store.check_storage,
    "clock": doctor_store.check_clock,
    "file": doctor_store.check_file,
    "name": doctor_store.check_name,
}
OF_DAEMON = frozenset(("daemon", "front", "socket", "fork", "nofile", "memory", "pids", "cpu"))

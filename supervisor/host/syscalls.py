"""The supervisor's system calls on processes: spawn, signal, reap, and prctl.

law: children are reaped here and nowhere else, so the pid of one that is known cannot have been given
to anyone else (test_processes_are_made_and_ended_in_one_file_of_a_wing).  Signals go through its
pidfd all the same.  Those that nobody knows are reaped too: the master is the subreaper of all that
its children leave behind, and may be PID 1.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

_PR_SET_CHILD_SUBREAPER = 36


class Death(NamedTuple):
    pid: int
    returncode: int
    """Exit code, or minus the number of the signal."""
    rss_bytes_max: int
    cpu_s: float


def become_subreaper() -> None:
    """Become the parent of all orphans among the descendants.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def fill_standard_fds() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed, so that no other file becomes it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def spawn(argv: Sequence[str], environ: Mapping[str, str], fds: Sequence[int]) -> int:
    """Start a program in a session of its own, with default signals; returns its pid.

    It inherits the standard files and `fds` under their numbers.  Raises OSError.
    """
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(environ),
            setsid=True,
            setsigmask=[],
            setsigdef=[s for s in signal.valid_signals() if s not in _FIXED],
        )
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


_FIXED = {signal.SIGKILL, signal.SIGSTOP}


def open_pidfd(pid: int) -> int | None:
    """Return a pidfd of a living or unreaped process, None if there is none."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def send(pidfd: int, name: str) -> None:
    """Send a signal by its name; a process that has gone meanwhile is no error."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.Signals[name])


def cpu_s(pid: int) -> float | None:
    """Return the processor time of a process so far, None if it is gone (man 5 proc: stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pss_bytes(pid: int) -> int | None:
    """Return the memory of a process, shared pages by their share; None if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


_TICKS = os.sysconf("SC_CLK_TCK")


def kill_group(leader: int) -> None:
    """Kill what an unreaped session leader leaves behind in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def next_dead() -> int | None:
    """Return the pid of a child that has died and is not reaped yet, None if there is none."""
    try:
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return dead.si_pid if dead is not None else None


def reap(pid: int) -> Death:
    """Collect the status of a dead child."""
    _, status, usage = os.wait4(pid, 0)
    return Death(
        pid,
        os.waitstatus_to_exitcode(status),
        usage.ru_maxrss * 1024,
        usage.ru_utime + usage.ru_stime,
    )

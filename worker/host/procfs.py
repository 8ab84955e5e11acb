"""What the kernel tells of processes."""

from __future__ import annotations

import contextlib
import os

from . import syscalls


def alive(pid: int) -> bool:
    """Return whether `pid` runs; a zombie does not."""
    try:
        return _stat_fields(pid)[0] not in "ZX"
    except OSError:
        return False


def runs(pid: int, started: int) -> bool:
    """Return whether `pid` runs and is the process that started then, not one that got its number.

    One that exists but cannot be looked at (another user's, under ProtectProc=invisible) runs.
    """
    try:
        return start_time(pid) == started and alive(pid)
    except OSError:
        return syscalls.exists(pid)


def start_time(pid: int) -> int:
    """Return the start of `pid` in clock ticks since boot; raises OSError where it is gone."""
    return int(_stat_fields(pid)[19])


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third one on (the second may hold anything)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def host_id() -> str:
    """Return what names the running kernel and pid namespace: within it a pid can be judged.

    A sandbox may hide the boot id (systemd: ProcSubset=pid); the machine's id takes its place.
    "" where neither can be read: then nothing can be judged.
    """
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            machine = file.read().strip()
            if machine:
                return f"{machine}/{os.stat('/proc/self/ns/pid').st_ino}"
    return ""

"""What a fork would break: threads and connected sockets that user code has left in the zygote."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from socket import socket
from typing import NamedTuple


class Found(NamedTuple):
    threads: tuple[str, ...]
    """Threads that a forked child would not have, by name."""
    sockets: tuple[str, ...]
    """Connections that it would share."""


class ForkSafety:
    """Looks before every fork.  `trial_fork` makes a child that ends at once."""

    def __init__(self, ours: Iterable[int], trial_fork: Callable[[], None]) -> None:
        """`ours`: descriptors that the zygote has opened itself."""
        self._ours = set(ours)
        self._trial_fork = trial_fork
        self._tried: set[str] = set()
        """Native threads that have outlived a fork."""
        self._told: set[str] = set()

    def look(self, for_child: Iterable[int] = ()) -> Found:
        """`newborns`: descriptors that are for the child to come."""
        return Found(tuple(self._threads()), tuple(_sockets({*self._ours, *for_child})))

    def unreported(self, found: Found) -> tuple[str, ...]:
        """Return what was not returned before."""
        fresh = [name for name in (*found.threads, *found.sockets) if name not in self._told]
        self._told.update(fresh)
        return tuple(fresh)

    def _threads(self) -> list[str]:
        """A thread does not live on in a forked child, and a lock that it held stays locked there.

        Libraries that know of forks (OpenBLAS) end their threads before one and start them again
        when they are needed, in the child too.  Which ones do is tried.
        """
        others = _others()
        native = set(others) - _pythons()
        if native - self._tried and native == set(others):
            self._trial_fork()
            others = _others()
            self._tried = set(others)
        known = {str(thread.native_id): thread.name for thread in threading.enumerate()}
        return [f"thread {known.get(task) or _command(task)}" for task in others]


def _others() -> list[str]:
    return [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]


def _pythons() -> set[str]:
    return {str(thread.native_id) for thread in threading.enumerate()}


def _command(task: str) -> str:
    """Return the name and number of a thread that Python does not know."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
        return f"{file.read().strip()} ({task}, native)"
    return f"{task} (native)"


def _sockets(ours: set[int]) -> list[str]:
    """Two processes that share a connection read each other's answers."""
    names = []
    for entry in os.listdir("/proc/self/fd"):
        peer = None if int(entry) in ours else _peer(int(entry))
        if peer is not None:
            names.append(f"socket {entry} connected to {peer}")
    return names


def _peer(fd: int) -> str | None:
    """Return whom `fd` is connected to, None where it is not a connected socket of ours to worry about."""
    try:
        if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") or fd <= 2:
            return None
        with socket(fileno=os.dup(fd)) as copy:
            return str(copy.getpeername() or "an unnamed socket")
    except OSError:
        return None

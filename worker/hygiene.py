"""What a fork would break: threads and connected sockets that an import has left behind."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable


def unsafe(ours: Iterable[int]) -> tuple[str, ...]:
    """Name the threads and connected sockets of this process; `ours` are the descriptors we opened."""
    return (*_threads(), *_sockets(set(ours)))


def _threads() -> list[str]:
    """A thread does not live on in a forked child, and a lock that it held stays locked there."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    others = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    return [f"thread {known.get(int(task)) or _command(task)}" for task in others]


def _command(task: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
        return file.read().strip()
    return task


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
        with socket.socket(fileno=os.dup(fd)) as copy:
            return str(copy.getpeername() or "an unnamed socket")
    except OSError:
        return None

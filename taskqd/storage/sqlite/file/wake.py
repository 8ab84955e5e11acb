"""Waking other processes of this host through FIFOs beside the database.

`<db>-wake/q<queue>/<name>`   an idle worker's; held open for reading only while it is idle
`<db>-wake/t<space>/<name>`   a scheduler's, held open for its life
`<db>-wake/w<space>/<id>~<name>`  a waiter's for the answer of job <id>; "" stands for any job

Who has work for n idle workers writes one byte to each of n open FIFOs that have none yet.  Opening
a FIFO that nobody reads fails with ENXIO, so nothing is sent to the busy or the dead.  A byte can be
lost with the process that it woke; therefore idle workers also look every `POLL_S`.

All failures to write are silent by nature: the reader is gone, and looks for itself.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import random
import stat
import termios
import time
from collections.abc import Collection
from os import close
from urllib.parse import quote

POLL_S = 2.0
POLL_WITHOUT_FIFO_S = 0.2
STALE_S = 3600.0
FOLDER_MODE = 0o770
FIFO_MODE = 0o660
"""Both less the umask."""


def queue_place(queue: int) -> str:
    return f"q{queue}"


def timer_place(space: int) -> str:
    return f"t{space}"


def waiter_place(space: int) -> str:
    return f"w{space}"


def waiter_prefix(job_id: str) -> str:
    """Return how the names of a job's waiters begin, up to and including the ``~``."""
    return quote(job_id, safe="") + "~"


class Wake:
    """The wake-up folder of one database."""

    def __init__(self, path: str) -> None:
        self.folder = path + "-wake"
        self.mine: set[str] = set()
        """Names of this storage object's own FIFOs."""

    def ring(self, place: str, count: int, *, others: bool = False) -> None:
        """Wake up to `count` idle ones.  `others`: not the owner of this storage object."""
        names = self._names(place)
        random.shuffle(names)
        for name in names:
            if count <= 0:
                return
            if not (others and name in self.mine) and self._ring_one(
                f"{self.folder}/{place}/{name}"
            ):
                count -= 1

    def ring_all(self, place: str) -> None:
        for name in self._names(place):
            self._ring_one(f"{self.folder}/{place}/{name}")

    def ring_waiters(self, space: int, job_ids: Collection[str]) -> None:
        """Wake those who wait for the answers of these jobs."""
        place = waiter_place(space)
        names = self._names(place)
        if not names:
            return
        wanted = {waiter_prefix(job_id) for job_id in job_ids}
        wanted.add("~")
        for name in names:
            if name[: name.index("~") + 1] in wanted:
                self._ring_one(f"{self.folder}/{place}/{name}")

    def sweep(self, places: Collection[str]) -> None:
        """Remove FIFOs that dead processes left; a living worker makes its own again."""
        oldest = time.time() - STALE_S
        for place in places:
            for name in self._names(place):
                path = f"{self.folder}/{place}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    if (place[0] != "q" or os.stat(path).st_mtime < oldest) and is_unread(path):
                        os.unlink(path)

    def unread(self, space: int) -> list[str]:
        """Return the waiters' FIFOs that nobody reads any more."""
        place = waiter_place(space)
        paths = [f"{self.folder}/{place}/{name}" for name in self._names(place)]
        return [path for path in paths if is_unread(path)]

    def _names(self, place: str) -> list[str]:
        try:
            return os.listdir(f"{self.folder}/{place}")
        except OSError:
            return []

    def _ring_one(self, path: str) -> bool:
        """Write one byte unless one is waiting there; return whether that wakes somebody."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _pending(fd) == 0 and os.write(fd, b"\1") == 1
        except OSError:
            return False
        finally:
            close(fd)


class Fifo:
    """One FIFO, under one or several names, and how its owner listens to it."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._name = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._paths: list[str] = []
        self._fd = -1
        wake.mine.add(self._name)

    @property
    def fd(self) -> int:
        """-1: not listening."""
        return self._fd

    def listen(self, places: Collection[str], prefixes: Collection[str] = ("",)) -> bool:
        """Make the FIFO where it is missing, and open it.  False: there can be none here."""
        self.ignore()
        folder = self._wake.folder
        self._paths = [
            f"{folder}/{place}/{prefix}{self._name}" for place in places for prefix in prefixes
        ]
        try:
            self._fd = self._open(f"{folder}/{self._name}")
        except OSError:
            return False
        return True

    def _open(self, first: str) -> int:
        """Open the FIFO; it gets its names only when it is open, so whoever sees one can ring."""
        if self._paths and all(map(_is_fifo, self._paths)):
            with contextlib.suppress(FileNotFoundError):
                return _open_fifo(self._paths[0])
        for path in self._paths:
            os.makedirs(os.path.dirname(path), FOLDER_MODE, exist_ok=True)
        os.mkfifo(first, FIFO_MODE)
        try:
            fd = _open_fifo(first)
            for path in self._paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                os.link(first, path)
        finally:
            os.unlink(first)
        return fd

    def drain(self) -> bool:
        """Take all bytes; return whether there were any."""
        try:
            return self._fd >= 0 and bool(os.read(self._fd, 65536))
        except BlockingIOError:
            return False

    def ignore(self) -> None:
        """Stop listening: nobody can ring any more."""
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        self.ignore()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._paths = []
        self._wake.mine.discard(self._name)


def is_unread(path: str) -> bool:
    """Return whether no process has the FIFO open for reading."""
    try:
        close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def _open_fifo(path: str) -> int:
    # Read and write: a FIFO without a writer would be readable (end of file) for ever.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _pending(fd: int) -> int:
    waiting = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, waiting)
    return waiting[0]

"""Keeps processes from using one file with two indexes of its log.

SQLite's locks of the log stand in the file `-shm` beside the database.  Where that is removed while it
is in use, who opens the database next makes another one, holds no lock in common with those before it,
and both write: the database is destroyed.  So each process holds a lock of its own on the database, and
another on the `-shm` that it uses.  Who comes while the database is held, and finds a `-shm` that nobody
holds, or none, waits for those to leave, and is refused in the end.

The locks are of open files (OFD), on a byte that SQLite does not know: they end with their process, and
closing another descriptor of the file does not drop them, as it does with SQLite's own.  That is why a
descriptor here is closed only behind the last connection of its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from _thread import RLock
from collections.abc import Callable
from os import close
from time import sleep
from typing import NamedTuple

from taskqd.clock import monotonic_s
from taskqd.errors import StorageUnavailable

LEFT_S = 2.0
"""Those whose `-shm` was removed have noticed it, and left, within about so long."""
OPENED_S = 5.0
"""Who opens the file has done so within so long, or was refused."""
_BYTE = 1 << 60
_LOCK = struct.Struct("@hhqqi4x")
_POLL_S = 0.01
Inode = tuple[int, int]


class _Wait(NamedTuple):
    patience_s: float
    refusal: str


_LEAVING = _Wait(
    LEFT_S,
    "sqlite storage {path}: {path}-shm was removed or replaced while processes use it, and some have "
    "not noticed yet; nothing is lost. Stop those that `fuser {path}` names, and it is opened again",
)
_OPENING = _Wait(
    OPENED_S,
    "sqlite storage {path}: another process has been opening it for more than "
    f"{OPENED_S:g} s; see `fuser {{path}}`",
)


class Use:
    """One database, as this process uses it; made by `connect`."""

    def __init__(self, path: str, inode: Inode) -> None:
        self.path = path
        self.inode = inode
        self.index: Inode | None = None
        """The `-shm` in use."""
        self.is_lost = False
        """Its connections are closed, or about to be."""
        self.closers: list[Callable[[], None]] = []
        """Close the connections of this process."""
        self._database = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._index = -1

    def enter(self) -> None:
        """Hold the database, alone where it is not in use.  Raises StorageUnavailable."""
        since_s = monotonic_s()
        waits_for = self._try_to_enter()
        while waits_for is not None:
            if monotonic_s() > since_s + waits_for.patience_s:
                raise StorageUnavailable(waits_for.refusal.format(path=self.path))
            sleep(_POLL_S)
            before, waits_for = waits_for, self._try_to_enter()
            since_s = since_s if waits_for is before else monotonic_s()

    def _try_to_enter(self) -> _Wait | None:
        """Return what is to be waited for; None: it is entered."""
        if _locked(self._database, fcntl.F_WRLCK):
            return None  # Nobody else uses it: what stands beside it is nobody's.
        if not _locked(self._database, fcntl.F_RDLCK):
            return _OPENING
        if self._is_index_held():
            return None
        _locked(self._database, fcntl.F_UNLCK)
        return _LEAVING

    def _is_index_held(self) -> bool:
        try:
            fd = os.open(self.path + "-shm", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _is_locked(fd)
        finally:
            # No connection of this process has it open yet: no lock of SQLite's is dropped.
            close(fd)

    def opened(self) -> None:
        """Hold the index too, once a connection has it open, and let others in."""
        if self._index < 0:
            with contextlib.suppress(OSError):
                self._index = os.open(self.path + "-shm", os.O_RDWR | os.O_CLOEXEC)
                self.index = _inode(os.fstat(self._index))
                _locked(self._index, fcntl.F_RDLCK)
        _locked(self._database, fcntl.F_RDLCK)

    def let_go(self) -> None:
        """Hold nothing any more; called behind the last connection."""
        for fd in (self._index, self._database):
            if fd >= 0:
                close(fd)


_uses: dict[Inode, Use] = {}
_turn = RLock()


def connect(path: str, open_connection: Callable[[], Callable[[], None]]) -> Use:
    """Open a connection while nobody uses another index.  Raises StorageUnavailable.

    `open_connection` returns what closes it.
    """
    with _turn:
        use = _use_of(os.path.realpath(path))  # The log is beside the database, not beside a link.
        try:
            use.closers.append(open_connection())
            use.opened()
        finally:
            _drop_unused(use)
        return use


def _use_of(path: str) -> Use:
    try:
        inode = _inode(os.stat(path))
        known = _uses.get(inode)
        use = known or Use(path, inode)
    except OSError as error:
        raise StorageUnavailable(
            f"sqlite storage {path}: cannot be opened any more: {error.strerror}"
        ) from error
    if known is not None:
        if use.is_lost or use.index != index_of(path):
            raise StorageUnavailable(_LEAVING.refusal.format(path=path))
        return use
    try:
        use.enter()
    except BaseException:
        use.let_go()
        raise
    _uses[inode] = use
    return use


def leave(use: Use, closer: Callable[[], None]) -> None:
    """Close a connection, and let go of the database behind the last one."""
    with _turn:
        try:
            if closer in use.closers:
                use.closers.remove(closer)
                closer()
        finally:
            _drop_unused(use)


def lose(use: Use) -> None:
    """Close every connection of this process: their index is not at its path any more.

    One that is in use now is closed by its own thread.
    """
    with _turn:
        use.is_lost = True
        for closer in list(use.closers):
            with contextlib.suppress(Exception):
                closer()
                use.closers.remove(closer)
        _drop_unused(use)


def index_of(path: str) -> Inode | None:
    """Return which `-shm` stands beside the database."""
    try:
        return _inode(os.stat(path + "-shm"))
    except OSError:
        return None


def _drop_unused(use: Use) -> None:
    if not use.closers and _uses.get(use.inode) is use:
        del _uses[use.inode]
        use.let_go()


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _locked(fd: int, kind: int) -> bool:
    """Set a lock of this kind; return whether it is had.  Where there are no such locks: it is."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, _BYTE, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _is_locked(fd: int) -> bool:
    """Return whether anybody else holds a lock on the file."""
    try:
        found = fcntl.fcntl(
            fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)
        )
    except OSError:
        return True
    return bool(_LOCK.unpack(found)[0] != fcntl.F_UNLCK)


def _forget() -> None:
    """A child that was forked uses nothing: its copies of the descriptors would keep locks alive."""
    global _turn
    _turn = RLock()
    for use in _uses.values():
        with contextlib.suppress(OSError):
            use.let_go()
    _uses.clear()


os.register_at_fork(after_in_child=_forget)

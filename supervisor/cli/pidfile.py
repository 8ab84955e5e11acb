"""The pid file of the daemon, locked for as long as the daemon lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from taskqd.errors import ConfigError

_TRIES = 100


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Hold the pid file, locked, for the length of the block; the lock proves that the daemon lives.

    Raises ConfigError where another daemon holds it.
    """
    if path is None:
        yield
        return
    try:
        fd = _take(path)
    except OSError as error:
        raise ConfigError(
            f"process.pidfile: {path}: cannot be written: {error.strerror}"
        ) from error
    try:
        yield
    finally:
        # Nobody else can have replaced it while it was locked.
        with suppress(OSError):
            os.unlink(path)
        os.close(fd)


def _take(path: str) -> int:
    """Return a locked descriptor of the file, which holds our pid whenever it can be seen."""
    for _ in range(_TRIES):
        old = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            _lock(old, path)
            if _is_at(old, path):
                return _replace(path)
        finally:
            os.close(old)
    raise ConfigError(f"process.pidfile: {path}: other daemons keep replacing it")


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 20, 0).decode(errors="replace").strip()
        raise ConfigError(
            f"process.pidfile: {path}: held by a daemon that runs (pid {pid or 'not written yet'}); "
            "stop it, or give this one another file"
        ) from None


def _is_at(fd: int, path: str) -> bool:
    """Return whether the open file is still the one at `path`; a daemon that ends removes its file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _replace(path: str) -> int:
    """Rename a new, locked file over the old one, so that a reader sees one or the other."""
    fresh = f"{path}.{os.getpid()}"
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, f"{os.getpid()}\n".encode())
        os.rename(fresh, path)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            os.unlink(fresh)
        raise
    return fd

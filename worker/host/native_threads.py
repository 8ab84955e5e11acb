"""What belongs to the system's own threads, whatever users' code has replaced.

Where users' jobs run in greenlets, the standard library waits in an event loop instead of in the
kernel.  The threads that talk to storage and master must not, so these names are bound before the
library is patched.  tests/unit/test_native.py holds that no module of ours looks one up later.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

__all__ = ["NativeEvent", "Thread", "claim", "claimed", "get_ident", "is_ours", "sleep"]

_ours: set[int] = set()


def is_ours() -> bool:
    """Return whether this thread runs code of ours, not of users."""
    return get_ident() in _ours


def claim() -> None:
    """Count this thread among ours from now on."""
    _ours.add(get_ident())


@contextmanager
def claimed() -> Iterator[None]:
    """Count this thread among ours for a while, in which it must not switch to a greenlet."""
    before = is_ours()
    claim()
    try:
        yield
    finally:
        if not before:
            _ours.discard(get_ident())


class NativeEvent:
    """`threading.Event`, for one thread that waits and one that sets it."""

    def __init__(self) -> None:
        self._gate = allocate_lock()
        self._gate.acquire()
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._gate.release()

    def clear(self) -> None:
        if self._is_set:
            self._is_set = False
            self._gate.acquire()

    def wait(self, timeout: float | None = None) -> bool:
        if self._gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._gate.release()
            return True
        return False


class Thread:
    """A thread of ours.  It runs `run` and does not keep the process from ending."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._over = NativeEvent()

    def start(self) -> None:
        """Raises RuntimeError where no thread can be started."""
        start_new_thread(self._live, ())

    def _live(self) -> None:
        claim()
        try:
            self._run()
        finally:
            _ours.discard(get_ident())
            self._over.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Return whether it has ended; for one waiting thread."""
        return self._over.wait(timeout_s)

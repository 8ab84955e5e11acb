"""How the storage wakes a worker or a scheduler: its bell is armed while there is nothing to do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from select import EPOLLIN, EPOLLONESHOT, epoll

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.jobs.job import Lease
from taskqd.storage.base import Bell


class Wakeup:
    """Opens the bell when it is first needed and again after an outage.

    law: its descriptor is watched once per arming (EPOLLONESHOT), because bells may share one that
    stays readable for other workers (test_a_descriptor_that_stays_readable_wakes_once_per_arming).
    """

    def __init__(self, open_bell: Callable[[], Bell], poll: epoll) -> None:
        self._open_bell = open_bell
        self._poll = poll
        self._bell: Bell | None = None
        self._fd = -1
        self.armed = False
        self.poll_at_s = math.inf
        """Ask again then, on the monotonic clock, although nothing rang."""

    def arm(self) -> None:
        """Be woken from now on.  Raises StorageError."""
        if self.armed:
            return
        if self._bell is None:
            self._bell = self._open_bell()
        self._bell.arm()
        self._watch(self._bell.fileno())
        self.armed = True
        self.polled()

    @property
    def wakes(self) -> bool:
        """The bell can ring; else only its poll interval wakes."""
        return self._fd >= 0

    @property
    def poll_s(self) -> float:
        assert self._bell is not None
        return self._bell.poll_s

    def polled(self) -> None:
        """Put off the next poll: the worker's loop asks now."""
        self.poll_at_s = monotonic_s() + self.poll_s

    def rings(self, fd: int) -> bool:
        return self.armed and fd == self._fd

    def answer(self) -> list[Lease] | None:
        """Return the jobs that came with the ring; the bell is not armed any more.

        None: nobody rang, and it is armed still.
        """
        assert self._bell is not None
        leases = self._bell.answer()
        if leases is None:
            self._watch(self._bell.fileno())
            self.polled()
        else:
            self._rest()
        return leases

    def disarm(self) -> list[Lease]:
        """Return the jobs that were handed over before this worker said that it is not idle."""
        self._rest()
        assert self._bell is not None
        self._unwatch()
        return self._bell.disarm()

    def close(self) -> None:
        """Let go of the bell, whatever state its connection is in."""
        self._rest()
        self._unwatch()
        bell, self._bell = self._bell, None
        if bell is not None:
            with contextlib.suppress(StorageError, OSError):
                bell.close()

    def _rest(self) -> None:
        self.armed = False
        self.poll_at_s = math.inf

    def _watch(self, fd: int) -> None:
        if fd != self._fd:
            self._unwatch()
            self._fd = fd
        if fd < 0:
            return
        try:
            self._poll.modify(fd, EPOLLIN | EPOLLONESHOT)
        except FileNotFoundError:  # new, or closed and opened again under its number
            self._poll.register(fd, EPOLLIN | EPOLLONESHOT)

    def _unwatch(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._poll.unregister(self._fd)
            self._fd = -1

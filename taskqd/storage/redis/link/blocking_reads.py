"""Blocking reads: connections that wait for one of several lists to get an element.

One server needs one connection for all lists; in a cluster each slot needs its own, and an epoll
instance makes one descriptor of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from redis.exceptions import RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import StorageUnavailable
from taskqd.storage.polling import EPOLLIN, epoll
from taskqd.storage.redis.link.cluster import Cluster
from taskqd.storage.redis.link.connection import BLOCK_S, SILENT_S, Link
from taskqd.storage.redis.link.faults import translate

Element = tuple[str, bytes]
"""List, what it got."""


class BlockingRead:
    """One connection."""

    def __init__(self, link: Link, lists: Sequence[str]) -> None:
        self._link = link
        self.lists = lists
        self._command = ("BLPOP", *lists, BLOCK_S)
        self._sent_s = 0.0
        self.waiting = False

    def listen(self, *, drop: bool = False) -> None:
        """Begin to wait, unless under way.  `drop`: how an earlier wait ended does not matter."""
        if self.waiting and drop and self._link.is_readable():
            with contextlib.suppress(StorageUnavailable):  # it is closed then, and opened below
                self.take()
        if self.waiting:
            if monotonic_s() - self._sent_s > BLOCK_S + SILENT_S and not self._link.is_readable():
                self.close()
                # law: what that wait was given is in the holdings, and only there
                # (test_holdings_after_a_broken_bell_have_the_handed_job_once).
                raise StorageUnavailable(f"{self._link.where}: a blocking read never ended")
            return
        self._link.send([self._command])
        self._sent_s = monotonic_s()
        self.waiting = True

    def take(self) -> Element | None:
        """Return what the wait ended with; None: it ended without any."""
        self.waiting = False
        reply = self._link.read()
        if isinstance(reply, RedisError):
            self.close()
            raise translate(reply, self._link.where, unknown=False)
        return None if reply is None else (reply[0].decode(), reply[1])

    def fileno(self) -> int:
        return self._link.fileno() if self.waiting else -1

    def is_rung(self) -> bool:
        return self.waiting and self._link.is_readable()

    def close(self) -> None:
        self._link.close()
        self.waiting = False


class BlockingReads:
    """All connections that a number of lists needs, as one."""

    def __init__(self, link: Link | Cluster, lists: Sequence[str]) -> None:
        self._all = [BlockingRead(own, some) for own, some in link.lanes(lists)]
        self._epoll = epoll() if len(self._all) > 1 else None

    @property
    def waiting(self) -> bool:
        return any(one.waiting for one in self._all)

    def listen(self, *, drop: bool = False) -> None:
        """See `BlockingRead.listen`."""
        for one in self._all:
            one.listen(drop=drop)
            if self._epoll is not None:
                _watch(self._epoll, one.fileno())

    def fileno(self) -> int:
        if self._epoll is None:
            return self._all[0].fileno() if self._all else -1
        return self._epoll.fileno() if self.waiting and not self._epoll.closed else -1

    def is_rung(self) -> bool:
        return any(one.is_rung() for one in self._all)

    def take(self) -> list[Element]:
        """Return what the waits ended with that have ended; call when `fileno` is readable."""
        if len(self._all) == 1:
            taken = [self._all[0].take()] if self._all[0].waiting else []
        else:
            taken = [one.take() for one in self._all if one.is_rung()]
        return [element for element in taken if element is not None]

    def take_from(self, lists: Iterable[str]) -> list[Element]:
        """Return what those waits end with that have one of these lists; one of each must have come."""
        wanted = set(lists)
        taken = [one.take() for one in self._all if one.waiting and wanted.intersection(one.lists)]
        return [element for element in taken if element is not None]

    def together(self) -> Iterable[tuple[bool, Sequence[str]]]:
        """Iterate over (whether it is under way, its lists) for each wait."""
        return [(one.waiting, one.lists) for one in self._all]

    def close(self) -> None:
        for one in self._all:
            one.close()

    def end(self) -> None:
        """Close for good."""
        self.close()
        if self._epoll is not None:
            self._epoll.close()


def _watch(poll: epoll, fd: int) -> None:
    try:
        poll.modify(fd, EPOLLIN)
    except FileNotFoundError:  # new, or closed and opened again under its number
        poll.register(fd, EPOLLIN)

"""A queue whose reader sleeps in epoll: threads put in, one thread is woken by a descriptor and takes."""

from __future__ import annotations

import os
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Any thread puts and rings; one thread takes.  Owns its eventfd for the life of the process."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.append = self._items.append
        """Put without ringing."""
        self.rung = False
        """The reader has been rung for and has not taken since."""

    def fileno(self) -> int:
        """Return what becomes readable when it rings.  It is never read: watch it edge-triggered."""
        return self._eventfd

    def put(self, item: T) -> None:
        """Put, and wake the reader."""
        self.append(item)
        if not self.rung:
            self.ring()

    def ring(self) -> None:
        """Wake the reader."""
        self.rung = True
        os.eventfd_write(self._eventfd, 1)

    def take(self) -> list[T]:
        """Return what was put since the last call, and be ready to ring again."""
        # law: the flag falls before the items are taken, so that one put in between rings
        # (test_what_is_put_while_the_reader_takes_rings_again).
        self.rung = False
        items = self._items
        return [items.popleft() for _ in range(len(items))]

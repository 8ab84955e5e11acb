"""Bells for threads of one process: an eventfd for each idle worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from taskqd.jobs.job import Lease
from taskqd.storage.memory.state.space import Space


class MemoryBell:
    """What wakes one idle worker or scheduler, once for each time that it was armed."""

    poll_s = 60.0

    def __init__(self, space: Space, places: Sequence[str], node: str = "") -> None:
        """`places`: names in `space.idle` under which to wait."""
        self.node = node
        self._space = space
        self._places = places
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def ring(self) -> None:
        """Wake the owner.  Called under the space's lock by whoever has work."""
        self._leave()
        os.eventfd_write(self._fd, 1)

    def arm(self) -> None:
        with self._space.lock:
            self.disarm()
            for place in self._places:
                self._space.idle.setdefault(place, {})[self] = None

    def answer(self) -> list[Lease]:
        with contextlib.suppress(BlockingIOError):  # disarmed between the ring and this call
            os.eventfd_read(self._fd)
        return []

    def disarm(self) -> list[Lease]:
        with self._space.lock:
            self._leave()
            return self.answer()

    def close(self) -> None:
        if self._fd >= 0:
            self.disarm()
            os.close(self._fd)
            self._fd = -1

    def _leave(self) -> None:
        for place in self._places:
            self._space.idle.get(place, {}).pop(self, None)

"""Keeps a file from being made anew while processes wait for it to come back.

A daemon whose file was moved away waits for it.  Were a new process of it, or a caller, to make an empty
file at the path meanwhile, all would go on with that one, and the jobs of the old one were forgotten.  So
who waits holds a FIFO beside the database open, which is seen by those that come.
"""

from __future__ import annotations

import os

from taskqd.storage.sqlite.file.wake import Fifo, Wake, is_unread

PLACE = "guard"


class Guard:
    """Of one storage object."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._fifo: Fifo | None = None

    def hold(self) -> None:
        """Say that this process waits for the file.  Where no FIFO can be made, nothing says so."""
        if self._fifo is None:
            self._fifo = Fifo(self._wake)
            self._fifo.listen([PLACE])

    def let_go(self) -> None:
        fifo, self._fifo = self._fifo, None
        if fifo is not None:
            fifo.remove()

    def is_held_by_others(self) -> bool:
        """Return whether any process waits for the file, or serves it: then it was there a moment ago."""
        folder = self._wake.folder
        try:
            places = os.listdir(folder)
        except OSError:
            return False
        return any(self._is_listened_to(f"{folder}/{place}") for place in places)

    def _is_listened_to(self, place: str) -> bool:
        try:
            names = os.listdir(place)
        except OSError:
            return False
        return any(
            name not in self._wake.mine and not is_unread(f"{place}/{name}") for name in names
        )

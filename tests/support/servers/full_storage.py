"""A storage that takes nothing new: as at maxmemory, on a full disk, or with the server of a queue away."""

from __future__ import annotations

from typing import Any

from taskqd.errors import OutcomeUnknown, QueueFull, StorageError, StorageUnavailable
from taskqd.storage.base import Storage


class Room:
    """Whether there is any; shared by all handles of one test."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        """The calls that are refused."""
        self.error: type[StorageError] = QueueFull
        self.late = False
        """They take effect all the same, and their replies are lost."""
        self.refusals = 0

    def fill(self, *calls: str, error: type[StorageError] = QueueFull) -> None:
        self.refusals = 0
        self.error = error
        self.refuses = set(calls)

    def make(self) -> None:
        self.refuses = set()


class FullStorage:
    """Passes everything on to `storage`, but for what `room` refuses."""

    def __init__(self, storage: Storage, room: Room) -> None:
        self.calm = storage
        self._room = room

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.calm, name)
        if name not in self._room.refuses:
            return found
        return lambda *args, **kwargs: self._refuse(found, *args, **kwargs)

    def _refuse(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        if self._room.late:
            call(*args, **kwargs)
            self._room.refusals += 1
            raise OutcomeUnknown("the reply was lost")
        self._room.refusals += 1
        raise self._room.error("no room")


AWAY = StorageUnavailable

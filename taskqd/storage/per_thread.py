"""One storage object for each thread of each process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from taskqd.storage.base import Storage

_inherited: list[Storage] = []
"""Storages of the parent process, kept so that no destructor closes what is not ours."""


class Storages(Protocol):
    def here(self) -> Storage:
        """Return the storage for code that runs here."""
        ...

    def close(self) -> None: ...


class StoragePerThread:
    def __init__(self, open_storage: Callable[[], Storage]) -> None:
        self._open = open_storage
        self._local = threading.local()

    def here(self) -> Storage:
        """Return this thread's storage, opened at first use and again after a fork."""
        opened: tuple[int, Storage] | None = getattr(self._local, "opened", None)
        if opened is None or opened[0] != os.getpid():
            if opened is not None:
                # A storage that came over a fork is dropped without being closed: its socket and
                # its file locks belong to the parent.
                _inherited.append(opened[1])
            opened = (os.getpid(), self._open())
            self._local.opened = opened
        return opened[1]

    def close(self) -> None:
        """Close this thread's storage, if it has one."""
        opened = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

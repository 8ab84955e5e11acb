"""Queues whose server is away while those of other servers go on.

A cluster may lose one server, without a replica for it: what other servers have is served as ever.  A
thread of its own asks for the missing ones, because a server that is silent makes who asks wait.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from taskqd.errors import StorageError
from taskqd.storage.base import Storage
from taskqd.worker.connection.outage import Backoff
from taskqd.worker.host import native_threads, syscalls
from taskqd.worker.host.event_queue import EventQueue


class AwayQueues:
    """All methods but `_run` are the worker's loop's."""

    def __init__(self, open_storage: Callable[[], Storage]) -> None:
        """`open_storage`: makes a connection for the thread."""
        self._open_storage = open_storage
        self._why: dict[str, str] = {}
        """Queue -> what its server's failure said."""
        self._asked: deque[tuple[str, ...]] = deque()
        self._back: EventQueue[tuple[str, ...]] = EventQueue()
        self._wanted = native_threads.NativeEvent()
        self._runs = False

    def fileno(self) -> int:
        """Return an eventfd that is written to when some serve again.  Watch it edge-triggered."""
        return self._back.fileno()

    def __contains__(self, queue: object) -> bool:
        return queue in self._why

    def __len__(self) -> int:
        return len(self._why)

    @property
    def why(self) -> str:
        """What one of the failures said."""
        return next(iter(self._why.values()), "")

    def add(self, queues: Sequence[str], why: str) -> None:
        """Note that these are away, and ask for them from now on."""
        self._why |= dict.fromkeys(queues, why)
        self._asked.append(tuple(queues))
        if not self._runs:
            self._runs = True
            native_threads.Thread(lambda: syscalls.vital(self._run)).start()
        self._wanted.set()

    @property
    def some_are_back(self) -> bool:
        """Whether there is something to take from `returned`."""
        return self._back.rung

    def returned(self) -> list[list[str]]:
        """Return those that serve again since the last call, by what is away together."""
        return [[queue for queue in part if queue in self._why] for part in self._back.take()]

    def remove(self, queues: Sequence[str]) -> None:
        """Forget that these were away."""
        for queue in queues:
            self._why.pop(queue, None)

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        """Ask again and again for what is away."""
        asked: list[tuple[str, ...]] = []
        backoff = Backoff(random.uniform)
        storage: Storage | None = None
        while True:
            self._wanted.wait(backoff.next_s() if asked else None)
            if self._wanted.is_set():
                self._wanted.clear()
                backoff.reset()
            asked += [self._asked.popleft() for _ in range(len(self._asked))]
            for part in list(dict.fromkeys(asked)):
                try:
                    storage = storage or self._open_storage()
                    storage.next_expiry_s(part)
                except StorageError:
                    continue
                asked = [other for other in asked if other != part]
                self._back.put(part)

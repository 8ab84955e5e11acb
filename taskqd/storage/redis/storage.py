"""The storage on Redis and Valkey: its parts put together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from taskqd.errors import StorageError
from taskqd.settings import Durability
from taskqd.storage.redis import keys
from taskqd.storage.redis.answers import Answers
from taskqd.storage.redis.control import Control
from taskqd.storage.redis.doctor import Doctor
from taskqd.storage.redis.features import Kept
from taskqd.storage.redis.keep import Keep
from taskqd.storage.redis.leftovers import leftovers
from taskqd.storage.redis.parking import Parking
from taskqd.storage.redis.produce import Produce
from taskqd.storage.redis.view import View
from taskqd.storage.redis.work import Work
from taskqd.storage.rules import node_of


class RedisStorage(Produce, Work, Keep, Answers, Control, View, Kept, Parking):
    """`Storage` and `Features` on one server (``redis://``, ``rediss://``, ``unix://``,
    ``redis+sentinel://``) or on a cluster of them (``redis+cluster://``, ``rediss+cluster://``).

    `durability`: "memory" (None: the same), "local" (on the server's disk) or "replica", for
    enqueue and ticks.  `allow_eviction`: serve though the server may drop keys.  Connects at
    first use; raises ConfigError at once for a URL that cannot be one.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        durability: Durability | None = None,
        allow_eviction: bool = False,
    ) -> None:
        super().__init__(url, namespace, durability=durability, allow_eviction=allow_eviction)
        self._doctor = Doctor(self._link)
        self._guards = {}
        self._bells = {}
        self._joined = set()

    def ping(self) -> None:
        probe = keys.nothing(self.namespace)
        self._doctor.check_serving(probe, allow_eviction=self._allow_eviction)
        if self._durability == "local":
            self._doctor.local_durability()

    def warnings(self) -> list[str]:
        return self._doctor.warnings(self._durability)

    def leftovers(self) -> Iterator[str]:
        return leftovers(self)

    def close(self) -> None:
        for bell in self._bells.values():
            if not bell.is_closed:
                bell.close()
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        # A worker that leaves without a word is forgotten with its node.
        with contextlib.suppress(StorageError):
            self._leave()
        self._link.close()

    def _leave(self) -> None:
        if self._link.is_connected:
            for worker, queue in self._joined:
                self.run("leave", queue, [worker, node_of(worker)])

"""The storage on Redis and Valkey: its parts put together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from taskqd.errors import StorageError
from taskqd.storage.redis.answers import AnswerCalls
from taskqd.storage.redis.control import ControlCalls
from taskqd.storage.redis.enqueue import EnqueueCalls
from taskqd.storage.redis.groups import GroupCalls
from taskqd.storage.redis.keyspace import keys
from taskqd.storage.redis.keyspace.leftovers import leftovers
from taskqd.storage.redis.leases import LeaseCalls
from taskqd.storage.redis.limits import LimitCalls
from taskqd.storage.redis.nodes import NodeCalls
from taskqd.storage.redis.notes import NoteCalls
from taskqd.storage.redis.parked import ParkedCalls
from taskqd.storage.redis.revocations import RevocationCalls
from taskqd.storage.redis.timers import TimerCalls
from taskqd.storage.redis.views import ViewCalls
from taskqd.storage.rules import node_of


class RedisStorage(
    EnqueueCalls,
    LeaseCalls,
    NodeCalls,
    TimerCalls,
    AnswerCalls,
    ControlCalls,
    ViewCalls,
    NoteCalls,
    RevocationCalls,
    LimitCalls,
    GroupCalls,
    ParkedCalls,
):
    """`Storage` and `Features` on one server (``redis://``, ``rediss://``, ``unix://``,
    ``redis+sentinel://``) or on a cluster of them (``redis+cluster://``, ``rediss+cluster://``).

    `durability`: "memory" (None: the same), "local" (on the server's disk) or "replica", for
    enqueue and ticks.  `allow_eviction`: serve though the server may drop keys.  Connects at
    first use; raises ConfigError at once for a URL that cannot be one.
    """

    def ping(self) -> None:
        probe = keys.nothing(self.namespace)
        self._checks.check_serving(probe, allow_eviction=self._allow_eviction)
        if self._durability == "local":
            self._checks.local_durability()

    def warnings(self) -> list[str]:
        return self._checks.warnings(self._durability)

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

"""What all parts of the Redis storage stand on: the command connection, key names, known queues."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from taskqd.clock import monotonic_s
from taskqd.errors import ConfigError, StorageUnavailable
from taskqd.settings import Durability
from taskqd.storage.redis.keyspace import keys
from taskqd.storage.redis.keyspace.keys import Keys
from taskqd.storage.redis.keyspace.scripts import script
from taskqd.storage.redis.link.cluster import Cluster, open_link
from taskqd.storage.redis.link.connection import CALL_S, Args, Link
from taskqd.storage.redis.link.server_checks import ServerChecks
from taskqd.storage.redis.link.slots import Place

Call = tuple[str, str, Args]
"""Script, queue, arguments."""


class Base:
    """The command connections to one namespace."""

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        durability: Durability | None = None,
        allow_eviction: bool = False,
    ) -> None:
        if durability not in (None, "memory", "local", "replica"):
            raise ConfigError(f"durability {durability!r}: expected memory, local or replica")
        self.namespace = keys.checked("namespace", namespace)
        self._url = url
        self._durability = durability
        self._allow_eviction = allow_eviction
        self._link = open_link(url)
        self._own = Keys(namespace, "")
        self._keys: dict[str, Keys] = {}
        self._announced: dict[str, int] = {}
        """Queue -> how often the link was opened when it was announced."""
        self._announce_at_s = 0.0
        """Not before then, where it failed."""
        self._checks = ServerChecks(self._link)
        self._joined: set[tuple[str, str]] = set()
        """(worker, queue) that leased through this object."""

    def at(self, queue: str) -> Keys:
        """Return the keys of `queue`.  Raises ConfigError for an illegal name."""
        found = self._keys.get(queue)
        if found is None:
            found = self._keys[queue] = Keys(self.namespace, queue)
        return found

    def run(self, name: str, queue: str, args: Args = (), *, write: bool = True) -> Any:
        """Run one script for one queue."""
        return self._link.run(script(name), self.at(queue).jobs, args, write=write)

    def run_all(
        self, calls: Sequence[Call], *, write: bool = True, then: Sequence[Args] = ()
    ) -> list[Any]:
        """Run scripts in one round trip, then the commands `then`; return all replies."""
        if not calls:
            return []
        prepared = [(script(name), self.at(queue).jobs, args) for name, queue, args in calls]
        return self._link.run_all(prepared, write=write, then=then)

    def run_each(
        self, name: str, queues: Iterable[str], args: Args = (), *, write: bool = True
    ) -> list[Any]:
        """Run one script for each queue, in one round trip."""
        return self.run_all([(name, queue, args) for queue in queues], write=write)

    def announce(self, queues: Iterable[str]) -> None:
        """Make queues known, once for each connection: after a restart they may be forgotten.

        They are told of the standing orders: new ones, and all where whoever gave the orders died.
        """
        known, connects = self._announced, self._link.connects
        stale = [keys.checked("queue", queue) for queue in queues if known.get(queue) != connects]
        if not stale:
            return
        is_new = any(queue not in known for queue in stale)
        if not is_new and monotonic_s() < self._announce_at_s:
            return
        try:
            self._announce(stale)
        except StorageUnavailable:
            # law: who has announced them before can do without, where another server has the list
            # (test_a_queue_is_served_while_the_server_with_the_list_of_queues_is_away).
            if is_new or len(self.apart(["", *stale])) < 2:
                raise
            self._announce_at_s = monotonic_s() + CALL_S

    def _announce(self, queues: Sequence[str]) -> None:
        told = self.run("announce", "", queues)
        if told:
            self.run_each("flag", queues, told)
        self._announced |= dict.fromkeys(queues, self._link.connects)

    def announce_again(self, queues: Sequence[str]) -> None:
        """As `announce`, though it was done: whoever lives keeps the list alive."""
        for queue in queues:
            self._announced.pop(queue, None)
        self.announce(queues)

    def apart(self, queues: Sequence[str]) -> list[list[str]]:
        """Return the queues by their server, as far as that is known without asking.

        Those whose server is connected first: one that is silent is not.
        """
        found: dict[Place | None, list[str]] = {}
        for queue in queues:
            found.setdefault(self._link.place_of(self.at(queue).jobs), []).append(queue)
        return sorted(
            found.values(), key=lambda part: not self._link.is_at_hand(self.at(part[0]).jobs)
        )

    def call(self, *command: Any, write: bool = True) -> Any:
        """Run one command and return its reply."""
        return self._link.call(*command, write=write)

    def live_nodes(self) -> set[str]:
        """Return the ids of all nodes that are registered for any queue."""
        commands: list[Any] = [
            ("ZRANGE", self.at(queue).nodes, 0, -1) for queue in self.known_queues()
        ]
        replies = self._link.pipeline(commands, write=False) if commands else []
        return {node.decode() for reply in replies for node in reply}

    def known_queues(self) -> list[str]:
        names = self._link.call("SMEMBERS", keys.queues(self.namespace), write=False)
        return sorted(name.decode() for name in names)

    def some_queues(self, queue: str | None) -> list[str]:
        """Return where to look for something of `queue` (None: of any queue)."""
        return self.known_queues() if queue is None else [queue]

    def epoch(self) -> str:
        """Return the storage's random id, made at first use: another one means another storage."""
        return str(self._link.run(script("epoch"), self._own.jobs, [uuid.uuid4().hex]).decode())

    def by_server(self, queues: Iterable[str]) -> dict[Link, list[str]]:
        """Return the queues by the server that they are on."""
        found: dict[Link, list[str]] = {}
        for queue in queues:
            found.setdefault(self._link.server_of(self.at(queue).jobs), []).append(queue)
        return found

    def server_ms(self) -> int:
        """Return the server's time; of a cluster, one server's."""
        return server_ms(self._link)


def server_ms(link: Link | Cluster) -> int:
    seconds, micros = link.call("TIME", write=False)
    return int(seconds) * 1000 + int(micros) // 1000

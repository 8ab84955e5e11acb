"""Real Redis clusters for tests: a few masters on loopback, whose slots can be moved under load."""

from __future__ import annotations

import contextlib
from typing import Any

import redis

from tests.support.servers.ports import free_port
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import wait_until


class RedisCluster:
    """Several masters without replicas, each on a port of its own; use as a context manager.

    `conf` as for `RedisServer`.  The slots are shared out evenly, in order.
    """

    def __init__(self, binary: str | None = None, size: int = 3, **conf: object) -> None:
        self.servers = [_server(binary, **conf) for _ in range(size)]
        self.replicas: list[RedisServer] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in self.servers)

    def __enter__(self) -> RedisCluster:
        for server in self.servers:
            server.start()
        self._join()
        return self

    def _join(self) -> None:
        first, size = self.servers[0], len(self.servers)
        for number, server in enumerate(self.servers):
            slots = range(16384 * number // size, 16384 * (number + 1) // size)
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    port, bus = first.port, first.conf["cluster_port"]
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        self.wait_ok()

    def wait_ok(self) -> None:
        """Return when every server says that all slots are served."""
        wait_until(lambda: all(map(_serves_all, self.servers)), "all slots to be served")

    def add_replica(self, master: RedisServer) -> RedisServer:
        """Start a server that follows `master`, and takes its place when it dies; return it in sync."""
        replica = _server(master.binary, **master.conf).start()
        self.replicas.append(replica)
        port, bus = master.port, master.conf["cluster_port"]
        node = _node_id(master)
        with replica.client() as client:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
            wait_until(lambda: node.encode() in client.execute_command("CLUSTER", "NODES"))
            client.execute_command("CLUSTER", "REPLICATE", node)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
            # It has met its master alone; who does not know the others cannot take its place.
            others = [_node_id(server).encode() for server in self.servers]
            wait_until(
                lambda: all(map(client.execute_command("CLUSTER", "NODES").__contains__, others)),
                "the replica knows all servers",
            )
        for server in self.servers:
            with server.client() as client:
                wait_until(
                    lambda: _node_id(replica).encode() in client.execute_command("CLUSTER", "NODES")
                )
        return replica

    def owner(self, key: str) -> RedisServer:
        """Return the server that has the slot of a key."""
        with self.servers[0].client() as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", key)
            rows = client.execute_command("CLUSTER", "SLOTS")
        [port] = [row[2][1] for row in rows if row[0] <= slot <= row[1]]
        [server] = [server for server in self.servers if server.port == port]
        return server

    def slot(self, key: str) -> int:
        with self.servers[0].client() as client:
            slot: int = client.execute_command("CLUSTER", "KEYSLOT", key)
        return slot

    def move(self, key: str, to: RedisServer) -> Move:
        """Begin to move the slot of a key."""
        return Move(self, self.slot(key), self.owner(key), to)

    def queue_at(self, server: RedisServer, namespace: str) -> str:
        """Return the name of a queue that this server has."""
        names = (f"q{number}" for number in range(1000))
        return next(q for q in names if self.owner(f"{{{namespace}:{q}}}:jobs") is server)

    def __exit__(self, *_: object) -> None:
        for server in (*self.servers, *self.replicas):
            server.stop()


def _server(binary: str | None, **conf: object) -> RedisServer:
    ports = {"port": free_port(), "cluster_port": free_port()}
    given = {"cluster_enabled": "yes", "cluster_node_timeout": 1000, **conf, **ports}
    return RedisServer(binary, **given)  # type: ignore[arg-type]


class Move:
    """One slot on its way from one server to another, as a resharding does it."""

    def __init__(self, cluster: RedisCluster, slot: int, source: RedisServer, to: RedisServer):
        self._cluster = cluster
        self._slot = slot
        self._source, self._to = source, to
        self._ask(to, "SETSLOT", slot, "IMPORTING", _node_id(source))
        self._ask(source, "SETSLOT", slot, "MIGRATING", _node_id(to))

    def carry(self, count: int = 1000) -> int:
        """Move some keys; returns how many."""
        keys = self._ask(self._source, "GETKEYSINSLOT", self._slot, count)
        if keys:
            with self._source.client() as client:
                client.execute_command(
                    "MIGRATE", "127.0.0.1", self._to.port, "", 0, 5000, "KEYS", *keys
                )
        return len(keys)

    def finish(self) -> None:
        """Move what is left and hand over the slot."""
        node = _node_id(self._to)
        while True:
            while self.carry():
                pass
            self._ask(self._to, "SETSLOT", self._slot, "NODE", node)
            # The server that had it refuses as long as a key of it has come meanwhile.
            with contextlib.suppress(redis.ResponseError):
                self._ask(self._source, "SETSLOT", self._slot, "NODE", node)
                break
        for server in self._cluster.servers:
            self._ask(server, "SETSLOT", self._slot, "NODE", node)

    def _ask(self, server: RedisServer, *command: Any) -> Any:
        with server.client() as client:
            return client.execute_command("CLUSTER", *command)


def _node_id(server: RedisServer) -> str:
    with server.client() as client:
        node: bytes = client.execute_command("CLUSTER", "MYID")
    return node.decode()


def _serves_all(server: RedisServer) -> bool:
    with server.client() as client:
        return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")

"""Storages that a campaign can take away and give back: one server, Sentinels, a cluster, a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.servers.ports import free_port
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_server import RedisServer, SentinelServer, available_servers
from tests.support.servers.unruly_proxy import UnrulyProxy
from tests.support.waiting import wait_until

FSYNC = "always"
MASTER = "main"
NODE_TIMEOUT_MS = 1000


class Removable:
    """One storage, and the servers that are behind it; `url` is of who is not cut off."""

    def __init__(
        self, url: str, servers: Sequence[RedisServer] = (), proxies: Sequence[UnrulyProxy] = ()
    ) -> None:
        self.url = url
        self.servers = list(servers)
        self.proxies = list(proxies)
        """One for each daemon, where the storage has one address; else none."""

    def url_of(self, daemon: int) -> str:
        return self.proxies[daemon].url if self.proxies else self.url

    @property
    def path(self) -> str:
        return self.url.removeprefix("sqlite:///")

    def master(self) -> RedisServer:
        """Return the server that others follow."""
        [found] = [server for server in self.servers if replicas(server)]
        return found

    def wait_serving(self) -> None:
        """Return when writes are taken."""
        for server in self.servers:
            server.wait_ready()

    def wait_settled(self) -> None:
        """Start who is dead; return when every server has its place again."""
        self._start_dead()

    def _start_dead(self) -> None:
        for server in self.servers:
            if server.process is None:
                server.start()
        self.wait_serving()


class Watched(Removable):
    """A master and its replica, which a Sentinel watches."""

    def __init__(self, url: str, servers: Sequence[RedisServer], sentinel: SentinelServer) -> None:
        super().__init__(url, servers)
        self._sentinel = sentinel

    def wait_serving(self) -> None:
        wait_until(
            lambda: self._master() is not None,
            "a master that the Sentinel names",
        )

    def wait_settled(self) -> None:
        super().wait_settled()
        wait_until(self._is_followed, "a master that has its replica")

    def _is_followed(self) -> bool:
        master = self._master()
        return master is not None and replicas(master) == 1

    def _master(self) -> RedisServer | None:
        """Return the server that the Sentinel names, if it says of itself that it is the master."""
        port = self._sentinel.master_port(MASTER)
        return next((x for x in self.servers if x.port == port and role(x) == "master"), None)


class Clustered(Removable):
    """Three masters, of which the one of the queue has a replica."""

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__(cluster.url, [*cluster.servers, *cluster.replicas])

    def wait_serving(self) -> None:
        running = [server for server in self.servers if server.process]
        ports = {server.port for server in running}
        wait_until(lambda: all(_serves_all(x, ports) for x in running), "all slots to be served")

    def wait_settled(self) -> None:
        super().wait_settled()
        wait_until(lambda: sum(map(replicas, self.servers)) == 1, "a replica")


@contextmanager
def opened(storage: str, folder: Path, daemons: int) -> Iterator[Removable]:
    """Yield the storage of this kind, started anew."""
    if storage == "sqlite":
        yield Removable(f"sqlite:///{folder / 'away.db'}")
        return
    binary = available_servers()["valkey" if storage == "valkey" else "redis"]
    with ExitStack() as stack:
        if storage == "sentinel":
            yield _watched(stack, binary)
        elif storage == "cluster":
            yield _clustered(stack, binary)
        else:
            server = stack.enter_context(RedisServer(binary, appendfsync=FSYNC))
            proxies = [UnrulyProxy(server.socket) for _ in range(daemons)]
            for proxy in proxies:
                stack.enter_context(proxy)
            yield Removable(server.url, [server], proxies)


def _watched(stack: ExitStack, binary: str) -> Removable:
    servers = [
        RedisServer(binary, port=free_port(), appendfsync=FSYNC, repl_diskless_sync_delay=0)
        for _ in range(2)
    ]
    # A server that starts again is one that follows: only a Sentinel makes it a master.
    for server, other in zip(servers, servers[::-1], strict=True):
        server.conf["replicaof"] = f"127.0.0.1 {other.port}"
    del servers[0].conf["replicaof"]
    for server in servers:
        stack.enter_context(server)
    sentinel = stack.enter_context(SentinelServer(binary, MASTER, servers[0].port))
    wait_until(lambda: sentinel.replicas(MASTER) == 1, "the Sentinel's view")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0"
    made = Watched(url, servers, sentinel)
    made.wait_settled()
    return made


def _clustered(stack: ExitStack, binary: str) -> Removable:
    cluster = RedisCluster(
        binary, cluster_node_timeout=NODE_TIMEOUT_MS, appendfsync=FSYNC, repl_diskless_sync_delay=0
    )
    stack.enter_context(cluster)
    cluster.add_replica(cluster.owner("{away:default}:jobs"))
    made = Clustered(cluster)
    made.wait_settled()
    return made


def _replication(server: RedisServer) -> dict[str, Any]:
    """Return what it says of its place, {} where it cannot be asked."""
    try:
        with server.client() as client:
            facts: dict[str, Any] = client.info("replication")
    except redis.RedisError:
        return {}
    return facts


def role(server: RedisServer) -> str:
    return str(_replication(server).get("role", ""))


def replicas(server: RedisServer) -> int:
    """Return how many replicas follow this master and are in sync."""
    facts = _replication(server)
    if facts.get("role") != "master":
        return 0
    followers = [facts[name] for name in facts if name.startswith("slave") and name[5:].isdigit()]
    return sum(follower["state"] == "online" for follower in followers)


def _serves_all(server: RedisServer, ports: set[int]) -> bool:
    """Return whether by its word each slot has a master of these: it learns late that one is dead."""
    try:
        with server.client() as client:
            said = client.execute_command("CLUSTER", "INFO")
            rows = client.execute_command("CLUSTER", "SLOTS")
    except redis.RedisError:
        return False
    return b"cluster_state:ok" in said and {int(row[2][1]) for row in rows} <= ports

"""Storages whose servers have replicas: masters that die, hand over, come back, and slots that move."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import redis

from tests.chaos.faults.removable import (
    FSYNC,
    MASTER,
    NODE_TIMEOUT_MS,
    Clustered,
    Watched,
    replicas,
    role,
)
from tests.support.servers.ports import free_port
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_server import RedisServer, SentinelServer, available_servers
from tests.support.waiting import wait_until

ASKED_MAX, GIVEN_UP_S = 10, 6.0
CARRIED = 20
"""Keys of a slot that are moved between two looks."""


class Sentinels(Watched):
    """A master and two replicas: one is left to replicate to when the master is dead."""

    queues = ("default",)

    def master(self, _queue: str = "") -> RedisServer:
        found = self._master()
        assert found is not None
        return found

    def wait_serving(self) -> None:
        """Return when writes are taken: a master has to have a replica for that."""
        wait_until(self._takes_writes, "a master that has a replica")

    def _takes_writes(self) -> bool:
        master = self._master()
        return master is not None and replicas(master) > 0

    def hand_over(self, _queue: str) -> None:
        """Have a replica take the master's place, as an operator does."""
        before = self.master()
        with redis.Redis(port=self._sentinel.port) as client:
            _until_done(
                lambda: client.execute_command("SENTINEL", "FAILOVER", MASTER),
                lambda: self._master() not in (None, before),
            )

    def _start_dead(self) -> None:
        master = self.master()
        for server in self.servers:
            server.conf["replicaof"] = f"127.0.0.1 {master.port}"
        super()._start_dead()

    def _is_followed(self) -> bool:
        master = self._master()
        return master is not None and replicas(master) == len(self.servers) - 1


class SixServers(Clustered):
    """Three masters with a replica each; each has one of the `queues`."""

    def __init__(self, cluster: RedisCluster, namespace: str) -> None:
        super().__init__(cluster)
        self._cluster = cluster
        self._namespace = namespace
        self.queues = tuple(cluster.queue_at(one, namespace) for one in cluster.servers)

    def _key(self, queue: str) -> str:
        return f"{{{self._namespace}:{queue}}}:jobs"

    def master(self, queue: str = "") -> RedisServer:
        """Return the server that has this queue, by the word of one that lives."""
        living = next(server for server in self.servers if server.process)
        with living.client() as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", self._key(queue))
            rows = client.execute_command("CLUSTER", "SLOTS")
        [port] = [row[2][1] for row in rows if row[0] <= slot <= row[1]]
        [server] = [server for server in self.servers if server.port == port]
        return server

    def wait_settled(self) -> None:
        self._start_dead()
        wait_until(lambda: sum(map(replicas, self.servers)) == 3, "three masters with a replica")

    def _heir(self, queue: str) -> RedisServer:
        """Return the replica of the queue's master."""
        with self.master(queue).client() as client:
            port = client.info("replication")["slave0"]["port"]
        [heir] = [server for server in self.servers if server.port == port]
        return heir

    def kill_with_replica(self, queue: str) -> None:
        """Take the queue's server and its replica away: nobody takes their place."""
        for server in (self._heir(queue), self.master(queue)):
            server.kill()

    def hand_over(self, queue: str) -> None:
        """Have the replica take the master's place, as an operator does."""
        heir = self._heir(queue)
        with heir.client() as client:
            _until_done(
                lambda: client.execute_command("CLUSTER", "FAILOVER"),
                lambda: role(heir) == "master",
            )
        self.wait_serving()

    def move(self, queue: str) -> None:
        """Move the queue's slot to another master, some keys at a time."""
        owner = self._cluster.owner(self._key(queue))
        masters = self._cluster.servers
        to = masters[(masters.index(owner) + 1) % len(masters)]
        move = self._cluster.move(self._key(queue), to)
        move.carry(CARRIED)
        move.finish()


Replicated = Sentinels | SixServers


def _until_done(ask: Callable[[], object], done: Callable[[], bool]) -> None:
    """Ask for a failover, again where it was refused or came to nothing: servers give it up after 5 s."""
    for _ in range(ASKED_MAX):
        with contextlib.suppress(redis.ResponseError):
            ask()
        if wait_until(done, timeout_s=GIVEN_UP_S, failing=False):
            return
    raise AssertionError(f"asked {ASKED_MAX} times for a failover, in vain")


@contextmanager
def opened_replicated(storage: str, namespace: str) -> Iterator[Replicated]:
    """Yield "sentinel" or "cluster", started anew."""
    binary = available_servers()["redis"]
    with ExitStack() as stack:
        yield (
            _sentinels(stack, binary)
            if storage == "sentinel"
            else _six_servers(stack, binary, namespace)
        )


def _sentinels(stack: ExitStack, binary: str) -> Sentinels:
    servers = _followers_of_each_other(binary, 3)
    for server in servers:
        stack.enter_context(server)
    sentinel = stack.enter_context(SentinelServer(binary, MASTER, servers[0].port))
    wait_until(lambda: sentinel.replicas(MASTER) == 2, "the Sentinel's view")
    url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0"
    made = Sentinels(url, servers, sentinel)
    made.wait_settled()
    return made


def _followers_of_each_other(binary: str, count: int) -> Sequence[RedisServer]:
    """Return servers that start as who follows: only a Sentinel makes one of them a master again."""
    servers = [
        RedisServer(
            binary,
            port=free_port(),
            appendfsync=FSYNC,
            repl_diskless_sync_delay=0,
            min_replicas_to_write=1,
            min_replicas_max_lag=1,
        )
        for _ in range(count)
    ]
    first, *others = servers
    for server in others:
        server.conf["replicaof"] = f"127.0.0.1 {first.port}"
    return servers


def _six_servers(stack: ExitStack, binary: str, namespace: str) -> SixServers:
    cluster = RedisCluster(
        binary,
        cluster_node_timeout=NODE_TIMEOUT_MS,
        cluster_require_full_coverage="no",
        appendfsync=FSYNC,
        repl_diskless_sync_delay=0,
    )
    stack.enter_context(cluster)
    for master in cluster.servers:
        cluster.add_replica(master)
    made = SixServers(cluster, namespace)
    made.wait_settled()
    return made

"""What kind of server this is, whether it can serve, and what an operator should know of it."""

from __future__ import annotations

from taskqd.errors import StorageRefused, StorageUnavailable
from taskqd.settings import Durability
from taskqd.storage.redis.link.cluster import Cluster
from taskqd.storage.redis.link.connection import Link

OLDEST = (6, 2)
_ALWAYS = "set appendonly yes and appendfsync always on the server, or use durability=memory"


class ServerChecks:
    """Questions to one server, or to each of a cluster."""

    def __init__(self, link: Link | Cluster) -> None:
        self._link = link
        self._local: tuple[int, str] = (0, "")

    def infos(self) -> list[tuple[Link, dict[str, str]]]:
        return [(server, _info(server)) for server in self._link.servers()]

    def check_serving(self, probe: str, *, allow_eviction: bool) -> None:
        """Raise where jobs could not be worked on; `probe` is a key that never exists."""
        # A write that needs no memory: refused by a replica, a full disk, lacking replicas.
        self._link.call("DEL", probe)
        for server, info in self.infos():
            _check_server(server, info, allow_eviction=allow_eviction)

    def warnings(self, durability: Durability | None) -> list[str]:
        return [
            f"{server.where}: {text}"
            for server, info in self.infos()
            for text in (
                _old_version(info),
                _not_persistent(info),
                _evicting(info),
                _unguarded_replicas(info),
                _no_replica(info) if durability == "replica" else "",
            )
            if text
        ]

    def local_durability(self) -> str:
        """Return how a write is proven to be on disk: "WAITAOF", or "always" (nothing to do).

        Raises StorageRefused where a server cannot.  Asked once for each connection.
        """
        connects, how = self._local
        if not how or connects != self._link.connects:
            # Of a cluster the stricter answer: a server too old for WAITAOF refuses it then.
            how = min(_local(server, info) for server, info in self.infos())
            self._local = (self._link.connects, how)
        return how


def _info(server: Link) -> dict[str, str]:
    text: bytes = server.call("INFO", write=False)
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _check_server(server: Link, info: dict[str, str], *, allow_eviction: bool) -> None:
    if info.get("loading", "0") != "0":
        raise StorageUnavailable(f"{server.where}: LOADING: it is loading its data")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and not allow_eviction:
        raise StorageRefused(
            f"{server.where}: maxmemory-policy is {policy}: the server would drop jobs "
            "when its memory is full; set maxmemory-policy noeviction (CONFIG SET and its "
            "configuration file), or allow it with storage.allow_eviction"
        )


def _local(server: Link, info: dict[str, str]) -> str:
    if info.get("aof_enabled") != "1":
        raise StorageRefused(
            f"{server.where}: durability=local: the server keeps no append-only file; {_ALWAYS}"
        )
    if version_of(info) >= (7, 2):
        return "WAITAOF"
    reply = server.call("CONFIG", "GET", "appendfsync", write=False)
    if [bytes(item) for item in reply[1:2]] == [b"always"]:
        return "always"
    raise StorageRefused(
        f"{server.where}: durability=local: version {'.'.join(map(str, version_of(info)))} has no "
        f"WAITAOF, and appendfsync is not always; {_ALWAYS}"
    )


def version_of(info: dict[str, str]) -> tuple[int, ...]:
    """Return the version of the commands that the server knows (Valkey names Redis's)."""
    text = info.get("redis_version", "0")
    return tuple(int(part) for part in text.split(".")[:3] if part.isdecimal())


def _old_version(info: dict[str, str]) -> str:
    version = version_of(info)
    if version >= OLDEST:
        return ""
    return f"version {'.'.join(map(str, version))} is older than 6.2, the oldest that is supported"


def _not_persistent(info: dict[str, str]) -> str:
    if info.get("aof_enabled") == "1":
        return ""
    return (
        "no append-only file: what was enqueued since the last snapshot is lost when the server "
        "ends; set appendonly yes"
    )


def _evicting(info: dict[str, str]) -> str:
    policy = info.get("maxmemory_policy", "noeviction")
    return "" if policy == "noeviction" else f"maxmemory-policy {policy} may drop jobs"


def _no_replica(info: dict[str, str]) -> str:
    if int(info.get("connected_slaves", "0")):
        return ""
    return "durability=replica, and it has no replica: no job can be enqueued"


def _unguarded_replicas(info: dict[str, str]) -> str:
    replicas = int(info.get("connected_slaves", "0"))
    if not replicas or "min_slaves_good_slaves" in info:
        return ""
    return (
        "it has replicas, but min-replicas-to-write is 0: a master that was cut off loses what it "
        "took meanwhile; set min-replicas-to-write 1 and min-replicas-max-lag 1"
    )

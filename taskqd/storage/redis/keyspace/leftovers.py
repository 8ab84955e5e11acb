"""Looking for leaks: every key and row that nothing alive owns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskqd.storage.redis.keyspace import keys as names
from taskqd.storage.redis.keyspace.keys import Keys
from taskqd.storage.redis.views import ViewCalls
from taskqd.storage.rules import node_of

_LASTING = ("seq", "paused")
_EXPIRING = (
    "r",
    "receipt",
    "mail",
    "alarm",
    "sync",
    "group",
    "standing",
    "pulse",
    "taken",
    "blamed",
)
_OWN_LASTING = ("queues", "epoch", "seq", "schedules", "ticks", "last")
_OWN_EXPIRING = ("orders", "orders-end", "rate", "told", "gone")
_OF_LOCKS = ("locks", "ttls", "owners", "lock", "line", "owned")
_FOR_EVER = -1
"""What TTL says of a key without a lifetime; of one whose lifetime has just ended it says -2."""


def leftovers(view: ViewCalls) -> Iterator[str]:
    """Name what belongs to no job, answer, dead letter, node or tick within its lifetime.

    Reads everything: for tests and for `doctor`, on a storage that is quiet.
    """
    for pattern in names.patterns(view.namespace):
        for key in view.scan(pattern):
            yield from _of_key(view, key)
    for queue in view.known_queues():
        yield from Audit(view, view.at(queue)).rows()
    own = Audit(view, view.at(""))
    yield from own.ticks()
    yield from own.orders()
    yield from _of_locks(view)


def _of_key(view: ViewCalls, key: str) -> Iterator[str]:
    """Judge a key by its name and lifetime; rows of those that last are judged by `Audit`."""
    tag, _, name = key.partition("}:")
    queue = tag.partition(":")[2]
    kind, _, owner = name.partition(":")
    if kind in (_EXPIRING if queue else _OWN_EXPIRING):
        if view._read("TTL", key) == _FOR_EVER:
            yield f"{key}: has no lifetime"
    elif not queue:
        if kind not in (*_OWN_LASTING, *_OF_LOCKS):
            yield f"{key}: unknown name"
    elif queue not in view.known_queues():
        yield f"{key}: its queue is not known"
    elif kind in ("held", "inbox"):
        if not _is_alive(view, queue, node_of(owner)) and view._read("TTL", key) == _FOR_EVER:
            yield f"{key}: its node is not known"
    elif kind == "notes":
        if not view._read("SISMEMBER", view.at(queue)["noted"], owner):
            yield f"{key}: its job has ended"
    elif kind in ("crew", "knows"):
        if not _is_alive(view, queue, owner):
            yield f"{key}: its node is not known"
    elif kind not in Audit.KINDS and kind not in _LASTING:
        yield f"{key}: unknown name"


def _is_alive(view: ViewCalls, queue: str, node: str) -> bool:
    return view._read("ZSCORE", view.at(queue).nodes, node) is not None


class Audit:
    """The rows of one queue, compared with each other."""

    KINDS = (
        "jobs", "ready", "later", "suspects", "ghosts", "nodes", "info", "leases", "idle", "waiters",
        "dead", "tomb", "ticks", "last", "timers", "noted", "stops", "unique", "udone", "ustart",
        "strangers", "gone", "parked", "labels", "called",
    )  # fmt: skip

    def __init__(self, view: ViewCalls, keys: Keys) -> None:
        self._view = view
        self._keys = keys

    def rows(self) -> Iterator[str]:
        yield from self._jobs()
        yield from self._workers()
        yield from self._pairs("dead", "tomb", "ZRANGE", "HKEYS")
        yield from self._pairs("nodes", "info", "ZRANGE", "HKEYS")
        yield from self.ticks()
        yield from self._past("strangers")
        yield from self._past("gone")

    def _jobs(self) -> Iterator[str]:
        """Each job is in one place, and what is in a place is a job."""
        keys = self._keys
        jobs = self._set("HKEYS", "jobs")
        queued = [i for key in keys.ready_lists() for i in self._read("LRANGE", key, 0, -1)]
        ghosts = self._set("SMEMBERS", "ghosts")
        for ghost in ghosts:
            if ghost in queued:
                queued.remove(ghost)
            else:
                yield self._say("ghosts", ghost, "no stale entry of it is queued")
        places = queued + self._read("LRANGE", keys.suspects, 0, -1)
        places += self._read("ZRANGE", keys.later, 0, -1)
        for worker in self._view._workers(keys):
            places += self._read("HKEYS", keys.held(worker))
        for job in jobs.difference(places):
            yield self._say("jobs", job, "it is neither waiting nor running")
        for job in set(places) - jobs:
            yield self._say("ready", job, "it has no record")
        for job in {job for job in places if places.count(job) > 1} if _repeats(places) else ():
            yield self._say("ready", job, "it is in two places")
        for name in ("stops", "called", "udone", "ustart"):
            for job in self._set("HKEYS", name) - jobs:
                yield self._say(name, job, "it has ended")
        for job in self._set("HKEYS", "waiters") - jobs - self._set("ZRANGE", "strangers"):
            yield self._say("waiters", job, "it has ended")
        for job in self._set("SMEMBERS", "noted") - jobs:
            yield self._say("noted", job, "it has ended")
        for job in self._set("HKEYS", "parked") - self._set("ZRANGE", "dead"):
            yield self._say("parked", job, "it is no dead letter")
        for label in self._set("SMEMBERS", "labels") - self._set("HVALS", "parked"):
            yield self._say("labels", label, "no letter is parked under it")
        holders = self._set("HVALS", "udone") | self._set("HVALS", "ustart")
        for key in self._set("HKEYS", "unique") - holders:
            yield self._say("unique", key, "no job holds it")

    def _workers(self) -> Iterator[str]:
        nodes = self._set("ZRANGE", "nodes")
        for worker in self._set("LRANGE", "idle"):
            if node_of(worker.decode()).encode() not in nodes:
                yield self._say("idle", worker, "its node is not known")

    def _pairs(self, first: str, second: str, *read: str) -> Iterator[str]:
        """Two keys that must have the same members."""
        left, right = self._set(read[0], first), self._set(read[1], second)
        for member in left ^ right:
            have, lack = (first, second) if member in left else (second, first)
            yield self._say(have, member, f"{lack} lacks it")

    def orders(self) -> Iterator[str]:
        yield from self._pairs("orders", "orders-end", "HKEYS", "ZRANGE")
        yield from self._past("orders-end")

    def ticks(self) -> Iterator[str]:
        yield from self._past("ticks")
        known = {tick.rpartition(b"@")[0] for tick in self._set("ZRANGE", "ticks")}
        for name in self._set("HKEYS", "last") - known:
            yield self._say("last", name, "no tick of it is known")

    def _past(self, name: str) -> Iterator[str]:
        now = self._view.server_ms()
        for member in self._read("ZRANGEBYSCORE", self._keys[name], "-inf", now):
            yield self._say(name, member, "its lifetime is over")

    def _set(self, command: str, name: str) -> set[bytes]:
        bounds = (0, -1) if command in ("ZRANGE", "LRANGE") else ()
        return set(self._read(command, self._keys[name], *bounds))

    def _read(self, *command: Any) -> Any:
        return self._view._read(*command)

    def _say(self, name: str, member: bytes, why: str) -> str:
        return f"{self._keys[name]}: {member.decode('utf-8', 'replace')}: {why}"


def _of_locks(view: ViewCalls) -> Iterator[str]:
    own = view.at("")
    nodes = {
        node.decode()
        for queue in view.known_queues()
        for node in view._read("ZRANGE", view.at(queue).nodes, 0, -1)
    }
    held = set()
    for name in view._read("ZRANGE", own["locks"], 0, -1):
        places = view._read("HGETALL", own["lock:"] + name.decode())
        for owner, value in zip(places[::2], places[1::2], strict=True):
            _, until_ms, worker = value.decode().split(" ", 2)
            held.add((worker, owner + b"\n" + name))
            if int(until_ms) and int(until_ms) <= view.server_ms():
                yield f"{own['locks']}: {name.decode()}: the time of its owner is over"
            elif not int(until_ms) and node_of(worker) not in nodes:
                yield f"{own['locks']}: {name.decode()}: the node of its owner is not known"
        if not places:
            yield f"{own['locks']}: {name.decode()}: nobody owns it"
    owners = {entry for _, entry in held}
    for entry in view._read("HKEYS", own["ttls"]):
        if entry not in owners:
            yield f"{own['ttls']}: {entry.decode()}: owns what is not locked"
    for worker in view._read("SMEMBERS", own["owners"]):
        for entry in view._read("SMEMBERS", own["owned:"] + worker.decode()):
            if (worker.decode(), entry) not in held:
                yield f"{own['owned:']}{worker.decode()}: owns what is not locked"


def _repeats(places: list[bytes]) -> bool:
    return len(set(places)) < len(places)

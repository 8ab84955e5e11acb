"""Time that passes for a storage while it serves nobody, without waiting for it.

What a storage has kept of its nodes' leases is moved into the past, as an outage of so long would have
left it.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.storage.base import Storage
from taskqd.storage.expiry import Pulse
from taskqd.storage.memory import MemoryStorage
from taskqd.storage.redis import RedisStorage
from taskqd.storage.sqlite import SqliteStorage


def pass_unserved(storage: Storage, queues: Sequence[str], by_ms: int) -> None:
    """Let so many milliseconds pass in which the storage is away."""
    if isinstance(storage, MemoryStorage):
        _in_memory(storage, by_ms)
    elif isinstance(storage, SqliteStorage):
        _in_file(storage, by_ms)
    else:
        assert isinstance(storage, RedisStorage)
        for queue in queues:
            _on_server(storage, queue, by_ms)


def _in_memory(storage: MemoryStorage, by_ms: int) -> None:
    space = storage._space
    with space.lock:
        for state in space.nodes.values():
            state.expires_ms -= by_ms
        if space.pulse is not None:
            space.pulse = Pulse(*(ms - by_ms for ms in space.pulse))


def _in_file(storage: SqliteStorage, by_ms: int) -> None:
    def body(unit: object) -> None:
        storage._db.rows("UPDATE node SET expires_ms = expires_ms - ?", (by_ms,))
        storage._db.rows(
            "UPDATE pulse SET last_ms = last_ms - ?1, since_ms = since_ms - ?1", (by_ms,)
        )

    storage._write(body)


def _on_server(storage: RedisStorage, queue: str, by_ms: int) -> None:
    keys, call = storage.at(queue), storage._link.call
    rows = call("ZRANGE", keys.nodes, 0, -1, "WITHSCORES")
    for node, ends_ms in zip(rows[::2], rows[1::2], strict=True):
        call("ZADD", keys.nodes, int(float(ends_ms)) - by_ms, node)
    pulse = call("GET", keys["pulse"])
    if pulse:
        call("SET", keys["pulse"], " ".join(str(int(ms) - by_ms) for ms in pulse.split()))

"""A look at the raw keys and rows after a drain, without a line of the storages' own code.

What may stay: answers and counters that expire, and what a namespace needs to be one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

import redis

LASTING = {"queues", "epoch", "seq", "schedules"}
"""Names of keys that need no lifetime: a few per namespace or queue."""
DATED = {"gone"}
"""Names of sorted sets whose members say until when they are kept."""
ROWS = {
    "store": "0",
    "space": "0",
    "queue": "ready + suspects",
    "pulse": "0",
    "job": "state <> 6 OR rank <= :now",
    "standing": "until_ms <= :now",
    "gone": "until_ms <= :now",
    "taken": "until_ms <= :now",
    "party": "until_ms <= :now",
    "reply": "party NOT IN (SELECT id FROM party)",
    "tick": "until_ms <= :now",
    "start": "until_ms <= :now",
    "told": "ms <= :now - 60000",
}
"""Table -> which of its rows must not be there; of any other table, none may."""


def remains(url: str) -> Iterator[str]:
    """Name what must not be in a storage in which nothing is to be done."""
    if url.startswith("unix://"):
        with redis.Redis(unix_socket_path=url.removeprefix("unix://")) as client:
            yield from _keys(client)
    else:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
            yield from _rows(db)


def _keys(client: redis.Redis) -> Iterator[str]:
    for key in client.scan_iter(count=1000):
        name = key.decode().partition("}:")[2]
        if name in DATED:
            for member in client.zrangebyscore(key, "-inf", time.time() * 1000):
                yield f"member of {key.decode()} that is past its time: {member!r}"
        elif name not in LASTING and client.ttl(key) == -1:
            yield f"key without a lifetime: {key.decode()}"


def _rows(db: sqlite3.Connection) -> Iterator[str]:
    now = db.execute("SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)").fetchone()[0]
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for row in db.execute(f"SELECT * FROM {table} WHERE {ROWS.get(table, '1')}", {"now": now}):
            yield f"row of {table}: {row}"

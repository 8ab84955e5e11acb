"""Which apps keep something in a file."""

from __future__ import annotations

from taskqd.storage.sqlite.connection import Connection


def namespaces(path: str) -> list[str]:
    """Return the namespaces that have a queue, sorted."""
    connection = Connection(path, synchronous="full")
    try:
        rows = connection.rows(
            "SELECT name FROM space"
            " WHERE EXISTS (SELECT 1 FROM queue WHERE queue.space = space.id) ORDER BY name"
        )
    finally:
        connection.close()
    return [name for (name,) in rows]

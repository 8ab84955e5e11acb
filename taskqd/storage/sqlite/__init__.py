"""Jobs in one SQLite file on this host: no server, several processes."""

from taskqd.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]

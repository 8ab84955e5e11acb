"""What newer versions have added to the tables of schema.sql.

Each is made where it is missing, in old files and in new ones; old versions go on beside it.
"""

from __future__ import annotations

from typing import NamedTuple


class Addition(NamedTuple):
    present: str
    """Finds a row where it was made already."""
    make: str


def _column(table: str, name: str, kind: str) -> Addition:
    return Addition(
        f"SELECT 1 FROM pragma_table_info('{table}') WHERE name='{name}'",  # noqa: S608 - constants
        f"ALTER TABLE {table} ADD COLUMN {name} {kind}",
    )


def _table(name: str, columns: str, more: str = "") -> Addition:
    return Addition(
        f"SELECT 1 FROM sqlite_master WHERE type='table' AND name='{name}'",  # noqa: S608 - constants
        f"CREATE TABLE {name} ({columns}){more}",
    )


_PULSE = """               -- since when this file has served a namespace without a break
  space    INTEGER PRIMARY KEY,
  clock    TEXT NOT NULL,          -- whose monotonic clock the times are of
  last_ms  INTEGER NOT NULL,
  since_ms INTEGER NOT NULL
"""
_TAKEN = """               -- jobs that were taken from nodes which were not heard of
  queue    INTEGER NOT NULL,
  id       TEXT NOT NULL,
  node     TEXT NOT NULL,
  worker   TEXT NOT NULL,
  token    INTEGER NOT NULL,
  attempts INTEGER NOT NULL,       -- as counted then
  blamed   INTEGER NOT NULL,       -- its crash stands until the node registers again
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (queue, id)
"""
_KNOWER = """              -- whose workers lease what is parked under a label
  queue INTEGER NOT NULL,
  node  TEXT NOT NULL,
  label TEXT NOT NULL,
  PRIMARY KEY (queue, node, label)
"""
ADDITIONS = (
    # How long a place of a lock was given for; NULL in rows of old versions.
    _column("place", "ttl_ms", "INTEGER"),
    # How long a node's lease is; NULL in rows of old versions.
    _column("node", "lease_ms", "INTEGER"),
    _table("pulse", _PULSE),
    _table("taken", _TAKEN, " WITHOUT ROWID"),
    _table("knower", _KNOWER, " WITHOUT ROWID"),
)

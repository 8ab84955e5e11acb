"""The end of lifetimes, and a search for rows that have outlived theirs or belong to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from taskqd.clock import now_ms
from taskqd.storage.sqlite.rows.extras import CUT_PLACES, wake_waiter
from taskqd.storage.sqlite.rows.transaction import READY, SUSPECT, Transaction

ROWS_MAX = 100_000
"""Rows of one kind that one purge drops; the next one goes on."""
_LONELY = """
SELECT DISTINCT name FROM waiter WHERE space=?1 AND NOT EXISTS
  (SELECT 1 FROM place WHERE place.space=?1 AND place.name=waiter.name)"""


class _Kind(NamedTuple):
    """Rows that end at a time, or with others that they belong to."""

    table: str
    key: tuple[str, ...]
    is_old: str
    """?1: now, Unix ms; ?2: the space."""
    counts: bool = False


_OF_QUEUE = "queue IN (SELECT id FROM queue WHERE space=?2)"
_KINDS = (
    _Kind("tick", ("space", "name", "ms"), "until_ms<=?1 AND space=?2", counts=True),
    _Kind("standing", ("space", "subject"), "until_ms<=?1 AND space=?2"),
    _Kind("start", ("n",), "until_ms<=?1 AND space=?2"),
    _Kind("party", ("space", "id"), "until_ms<=?1 AND space=?2"),
    _Kind("gone", ("space", "worker"), "until_ms<=?1 AND space=?2"),
    _Kind("told", ("space", "key", "who"), "ms<=?1 AND space=?2"),
    _Kind("taken", ("queue", "id"), f"until_ms<=?1 AND {_OF_QUEUE}"),
    _Kind(
        "reply",
        ("space", "party", "number"),
        "space=?2 AND ?1 AND NOT EXISTS"
        " (SELECT 1 FROM party WHERE party.space=reply.space AND party.id=reply.party)",
    ),
)
_PLACES_TO_CUT = "SELECT 1 FROM place WHERE space=? AND until_ms>?+ttl_ms LIMIT 1"
_PLACES_FREED = "SELECT name, owner FROM place WHERE space=? AND until_ms<=? LIMIT ?"
_FREE_PLACE = "DELETE FROM place WHERE space=? AND name=? AND owner=? AND until_ms<=?"


class PastRows(NamedTuple):
    """Rows that were found past their lifetime, and what drops some of them, if they still are."""

    rows: Sequence[Any]
    drop: Callable[[Transaction, Sequence[Any]], int]
    counts: bool = False


def past_rows(reader: Transaction) -> Iterator[PastRows]:
    """Find what is past its lifetime, without the write lock: most times there is nothing."""
    now, space = now_ms(), reader.space
    for kind in _KINDS:
        yield PastRows(_old_rows(reader, kind, now), _dropper(kind, now), kind.counts)
    if reader.db.rows(_PLACES_TO_CUT, (space, now)):
        yield PastRows([()], lambda unit, _: unit.db.count(CUT_PLACES, (now, unit.space)))
    yield PastRows(
        reader.db.rows(_PLACES_FREED, (space, now, ROWS_MAX)),
        lambda unit, some: _free(unit, some, now),
    )
    yield PastRows(reader.db.rows(f"{_LONELY} LIMIT {ROWS_MAX}", (space,)), _wake_lonely)


def _old_rows(reader: Transaction, kind: _Kind, now: int) -> list[tuple[Any, ...]]:
    sql = f"SELECT {', '.join(kind.key)} FROM {kind.table} WHERE {kind.is_old} LIMIT {ROWS_MAX}"  # noqa: S608 - constants
    return reader.db.rows(sql, (now, reader.space))


def _dropper(kind: _Kind, now: int) -> Callable[[Transaction, Sequence[Any]], int]:
    same = " AND ".join(f"{column}=?{at}" for at, column in enumerate(kind.key, 3))
    sql = f"DELETE FROM {kind.table} WHERE {same} AND {kind.is_old} RETURNING 1"  # noqa: S608 - constants

    def drop(unit: Transaction, some: Sequence[Any]) -> int:
        return len(unit.db.many(sql, [(now, unit.space, *row) for row in some]))

    return drop


def _free(unit: Transaction, places: Sequence[tuple[str, str]], now: int) -> int:
    freed = [
        name for name, owner in places if unit.db.count(_FREE_PLACE, (unit.space, name, owner, now))
    ]
    for name in freed:
        wake_waiter(unit, name)
    return len(freed)


def _wake_lonely(unit: Transaction, names: Sequence[tuple[str]]) -> int:
    """Wake who waits for locks that nobody holds."""
    for (name,) in names:
        sql = "SELECT 1 FROM place WHERE space=? AND name=?"
        if not unit.db.rows(sql, (unit.space, name)):
            wake_waiter(unit, name)
    return len(names)


_ORPHAN = "WHERE job NOT IN (SELECT n FROM job WHERE extras) AND ?1 AND ?2"
_LEAKS_OF_SPACE = (
    ("orders past their time", "SELECT count(*) FROM standing WHERE space=? AND until_ms<=?"),
    ("starts past their time", "SELECT count(*) FROM start WHERE space=? AND until_ms<=?"),
    ("groups past their time", "SELECT count(*) FROM party WHERE space=? AND until_ms<=?"),
    ("marks past their time", "SELECT count(*) FROM gone WHERE space=? AND until_ms<=?"),
    ("places past their time", "SELECT count(*) FROM place WHERE space=? AND until_ms<=?"),
    ("notes without a job", f"SELECT count(*) FROM note {_ORPHAN}"),  # noqa: S608 - constants
    ("keys without a job", f"SELECT count(*) FROM uniq {_ORPHAN}"),  # noqa: S608 - constants
    (
        "parked letters that are none",
        "SELECT count(*) FROM parked WHERE job NOT IN (SELECT n FROM job WHERE state=5) AND ?1 AND ?2",
    ),
    ("stops without a job", f"SELECT count(*) FROM stop {_ORPHAN}"),  # noqa: S608 - constants
)
_LEAKS_OF_QUEUE = (
    ("answer of job ", "SELECT id FROM job WHERE queue=?1 AND state=6 AND rank<=?2"),
    (
        "job without the node of its worker: ",
        """SELECT id FROM job WHERE queue=?1 AND state=4 AND NOT EXISTS
           (SELECT 1 FROM member m WHERE m.queue=?1 AND job.rank LIKE m.node || '.%') AND ?2""",
    ),
    (
        "knower that serves no queue: ",
        """SELECT node FROM knower WHERE queue=?1 AND ?2 AND node NOT IN
           (SELECT node FROM member WHERE queue=?1)""",
    ),
    (
        "member without a node: ",
        """SELECT node FROM member WHERE queue=?1 AND ?2 AND node NOT IN
           (SELECT id FROM node WHERE space=(SELECT space FROM queue WHERE id=?1))""",
    ),
)
_COUNT = "SELECT count(*) FROM job WHERE queue=? AND state=?"


def leftovers(unit: Transaction) -> Iterator[str]:
    """Name what is past its lifetime, belongs to nothing, or is counted wrongly."""
    now = now_ms()
    for line in unit.every():
        for what, sql in _LEAKS_OF_QUEUE:
            for (name,) in unit.db.rows(sql, (line.id, now)):
                yield f"{what}{name} in queue {line.name}"
        counted = tuple(unit.db.rows(_COUNT, (line.id, state))[0][0] for state in (READY, SUSPECT))
        if counted != (line.ready, line.suspects):
            yield f"queue {line.name}: counts {line.ready, line.suspects}, has {counted}"
    sql = "SELECT name, ms FROM tick WHERE space=? AND until_ms<=?"
    for name, ms in unit.db.rows(sql, (unit.space, now)):
        yield f"tick {name}@{ms}"
    yield from _of_space(unit, now)


def _of_space(unit: Transaction, now: int) -> Iterator[str]:
    for what, sql in _LEAKS_OF_SPACE:
        [(count,)] = unit.db.rows(sql, (unit.space, now))
        if count:
            yield f"{count} {what}"
    for (name,) in unit.db.rows(_LONELY, (unit.space,)):
        yield f"waiter for lock {name}, which nobody holds"

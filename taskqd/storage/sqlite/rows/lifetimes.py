"""The end of lifetimes, and a search for rows that have outlived theirs or belong to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.clock import now_ms
from taskqd.storage.sqlite.rows.extras import CUT_PLACES, wake_waiter
from taskqd.storage.sqlite.rows.transaction import READY, SUSPECT, Transaction

_FREED_PLACES = "DELETE FROM place WHERE until_ms<=? AND space=? RETURNING name"
_LONELY = """
SELECT DISTINCT name FROM waiter WHERE space=?1 AND NOT EXISTS
  (SELECT 1 FROM place WHERE place.space=?1 AND place.name=waiter.name)"""
_PAST = (
    "DELETE FROM standing WHERE until_ms<=? AND space=?",
    "DELETE FROM start WHERE until_ms<=? AND space=?",
    "DELETE FROM party WHERE until_ms<=? AND space=?",
    "DELETE FROM gone WHERE until_ms<=? AND space=?",
    "DELETE FROM told WHERE ms<=? AND space=?",
)
_OLD_TAKEN = """
DELETE FROM taken WHERE until_ms<=?1 AND queue IN (SELECT id FROM queue WHERE space=?2)"""
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


def forget_old(unit: Transaction) -> None:
    """Drop what is past its lifetime, and wake who waits for a lock that nobody holds."""
    now = now_ms()
    for sql in _PAST:
        unit.db.rows(sql, (now, unit.space))
    unit.db.rows(
        "DELETE FROM reply WHERE space=?1 AND party NOT IN (SELECT id FROM party WHERE space=?1)",
        (unit.space,),
    )
    unit.db.rows(_OLD_TAKEN, (now, unit.space))
    unit.db.rows(CUT_PLACES, (now, unit.space))
    unit.db.rows(_FREED_PLACES, (now, unit.space))
    for (name,) in unit.db.rows(_LONELY, (unit.space,)):
        wake_waiter(unit, name)


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

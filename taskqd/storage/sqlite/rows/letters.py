"""Parked letters in a transaction: parked by who does not know their task, leased by who does."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.storage.rules import grant
from taskqd.storage.sqlite.rows.transaction import Line, Transaction

_PARK = "INSERT INTO parked (job, queue, label, ms) VALUES (?, ?, ?, ?)"
_UNKNOW = "DELETE FROM knower WHERE queue=? AND node=? AND label=?"
_KNOWN = "SELECT EXISTS (SELECT 1 FROM knower WHERE queue=? AND label=?)"
_IS_WAITING = "SELECT EXISTS (SELECT 1 FROM parked WHERE queue=? AND label=?)"
_COUNT = """
SELECT count(*) FROM knower k JOIN parked p ON p.queue = k.queue AND p.label = k.label
WHERE k.queue=? AND k.node=?"""
_LABELS = """
SELECT k.label FROM knower k WHERE k.queue=?1 AND k.node=?
AND EXISTS (SELECT 1 FROM parked p WHERE p.queue=?1 AND p.label=k.label)"""
_FIRST = """
SELECT job.n, job.id, job.record, job.priority, parked.ms
FROM parked JOIN job ON job.n = parked.job
WHERE parked.queue=? AND parked.label=? ORDER BY parked.ms, parked.job LIMIT ?"""
_RANK = "SELECT min(rank) FROM job WHERE queue=? AND state=1"
_UNPARK = "DELETE FROM parked WHERE job=?"
_CLEAR = "UPDATE job SET reason='', answer=x'' WHERE n=?"


class KnownLetter(NamedTuple):
    """A letter that may be leased."""

    n: int
    id: str
    record: bytes
    priority: int
    parked_ms: int


def park(unit: Transaction, line: Line, n: int, label: str, node: str, now: int) -> None:
    """Have a dead letter wait under a label that the workers of `node` do not know."""
    is_first = not unit.db.rows(_IS_WAITING, (line.id, label))[0][0]
    unit.db.rows(_PARK, (n, line.id, label, now))
    unit.db.rows(_UNKNOW, (line.id, node, label))
    if unit.db.rows(_KNOWN, (line.id, label))[0][0]:
        unit.ring_everybody(line)
    if is_first:
        unit.wakes_timers = True


def split(
    unit: Transaction, line: Line, node: str, limit: int, share: int
) -> tuple[list[KnownLetter], list[KnownLetter]]:
    """Return letters that the workers of a node know: those before the jobs that are ready, and after them."""
    if not line.has_letters:
        return [], []
    line.has_letters = False  # All who are idle were woken.
    [(count,)] = unit.db.rows(_COUNT, (line.id, node))
    found = _first(unit, line, node, grant(limit, count, share))
    top = _top_priority(unit, line)
    before = [letter for letter in found if letter.priority >= top]
    return before, [letter for letter in found if letter.priority < top]


def _first(unit: Transaction, line: Line, node: str, limit: int) -> list[KnownLetter]:
    """Return letters in the order in which they are leased."""
    found = [
        KnownLetter(*row)
        for (label,) in unit.db.rows(_LABELS, (line.id, node))
        for row in unit.db.rows(_FIRST, (line.id, label, limit))
    ]
    return sorted(found, key=lambda letter: (-letter.priority, letter.parked_ms))[:limit]


def _top_priority(unit: Transaction, line: Line) -> int:
    """Return the highest priority of the jobs that are ready, 0 where there are none."""
    [(rank,)] = unit.db.rows(_RANK, (line.id,))
    return 0 if rank is None else 9 - rank


def take(unit: Transaction, letters: list[KnownLetter]) -> None:
    """Take letters out from under their labels, without their answers."""
    unit.db.many(_UNPARK, [(letter.n,) for letter in letters])
    unit.db.many(_CLEAR, [(letter.n,) for letter in letters])

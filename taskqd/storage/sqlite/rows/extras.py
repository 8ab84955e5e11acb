"""What hangs on a job or on its worker, for the calls that move jobs: unique keys, wishes to stop,
places of locks.  The tables are mostly empty, and then cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry
from taskqd.storage.rules import GONE_MS, node_of
from taskqd.storage.sqlite.rows.transaction import Line, Transaction

_HOLDER = """
SELECT job.id FROM uniq JOIN job ON job.n = uniq.job WHERE uniq.queue=? AND uniq.key=?"""
_KEEP_KEY = """
INSERT INTO uniq (queue, key, job, until_start)
SELECT queue, ?3, n, ?4 FROM job WHERE queue=?1 AND id=?2"""
_ANY = """
SELECT EXISTS (SELECT 1 FROM stop),
  (SELECT orders FROM space
   WHERE id=?1 AND EXISTS (SELECT 1 FROM standing WHERE space=?1 AND until_ms>?2))"""
_STOPS = """
SELECT job.id FROM stop JOIN job ON job.n = stop.job JOIN queue ON queue.id = job.queue
WHERE queue.space=? AND job.state=4 AND job.rank=?"""
_END = "UPDATE job SET state=6, rank=?, pos=0, suspect=0, answer=?, record=x'' WHERE n=?"
_MARK_GONE = """
INSERT INTO gone (space, worker, until_ms) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET until_ms=excluded.until_ms"""
CUT_PLACES = "UPDATE place SET until_ms=?1+ttl_ms WHERE space=?2 AND until_ms>?1+ttl_ms"
"""Has places end no later than their length from now: the clock was set back since they were given."""
_WAITER = "SELECT n, queue, id FROM waiter WHERE space=? AND name=? ORDER BY n LIMIT 1"
_CALL = "UPDATE job SET extras=extras|2 WHERE queue=? AND id=? AND state=4"
_LATER = "SELECT n, priority FROM job WHERE queue=? AND id=? AND state=3"


def add_unique(
    unit: Transaction,
    lines: dict[str, Line],
    jobs: Sequence[Entry],
    add: Callable[[Sequence[Entry]], list[bool]],
) -> list[bool]:
    """Add those of the jobs whose key nobody holds, one by one: each may take a key from the next."""
    return [_add_one(unit, lines[job.queue], job, add) for job in jobs]


def _add_one(
    unit: Transaction, line: Line, job: Entry, add: Callable[[Sequence[Entry]], list[bool]]
) -> bool:
    if job.unique and unique_holder(unit, line, job.unique) not in (None, job.id):
        return False
    [is_new] = add([job])
    if is_new and job.unique:
        until_start = job.unique_until == "start"
        unit.db.rows(_KEEP_KEY, (line.id, job.id, job.unique, until_start))
        unit.db.rows("UPDATE job SET extras=extras|1 WHERE queue=? AND id=?", (line.id, job.id))
    return is_new


def unique_holder(unit: Transaction, line: Line, key: str) -> str | None:
    row = unit.db.row(_HOLDER, (line.id, key))
    return row[0] if row else None


def wishes(unit: Transaction, worker: str) -> tuple[tuple[str, ...], int]:
    """Return the ids of the worker's jobs that should stop, and the number of the last change to
    the standing orders, 0 where there are none."""
    row = unit.db.row(_ANY, (unit.space, now_ms()))
    assert row is not None
    some_stop, orders = row
    if not some_stop:
        return (), orders or 0
    stops = unit.db.rows(_STOPS, (unit.space, worker))
    return tuple(job_id for (job_id,) in stops), orders or 0


def end_stopped(unit: Transaction, n: int, job_id: str) -> bool:
    """End a job that was asked to stop and would go on.  False: it was not."""
    row = unit.db.row("SELECT answer, ttl_s FROM stop WHERE job=?", (n,))
    if row is None:
        return False
    answer, ttl_s = row
    if answer and ttl_s > 0:
        unit.db.rows(_END, (now_ms() + ttl_s * 1000, answer, n))
    else:
        unit.db.rows("DELETE FROM job WHERE n=?", (n,))
    unit.ended.append(job_id)
    return True


def mark_gone(unit: Transaction, worker: str) -> None:
    """Note that a worker's jobs were recovered; see `Storage.recover_worker`."""
    unit.db.rows(_MARK_GONE, (unit.space, worker, now_ms() + GONE_MS))


def is_gone(unit: Transaction, worker: str) -> bool:
    sql = "SELECT 1 FROM gone WHERE space=? AND worker=?"
    return unit.db.row(sql, (unit.space, worker)) is not None


def owners_of(unit: Transaction, node: str) -> list[str]:
    """Return the workers of a node that have places of locks."""
    sql = "SELECT DISTINCT worker FROM place WHERE space=? AND worker>=? AND worker<?"
    rows = unit.db.rows(sql, (unit.space, f"{node}.", f"{node}/"))
    return [worker for (worker,) in rows if node_of(worker) == node]


def free_places(unit: Transaction, worker: str) -> None:
    """Free all places of locks that a worker had, and wake who waits for them."""
    sql = "DELETE FROM place WHERE space=? AND worker=? RETURNING name"
    for (name,) in unit.db.rows(sql, (unit.space, worker)):
        wake_waiter(unit, name)


def wake_waiter(unit: Transaction, name: str) -> None:
    """Call the first waiter forward; one that waits no more makes room for the next."""
    while row := unit.db.row(_WAITER, (unit.space, name)):
        waiter, queue, job_id = row
        unit.db.rows("DELETE FROM waiter WHERE n=?", (waiter,))
        line = unit.line(queue)
        job = line and unit.db.row(_LATER, (line.id, job_id))
        if line and job:
            unit.to_tail(line, *job)
            return
        # Refused by the lock a moment ago, it is still held: its requeue sees the mark.
        if line and unit.db.count(_CALL, (line.id, job_id)):
            return

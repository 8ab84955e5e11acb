"""New jobs become rows."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry
from taskqd.storage.sqlite.rows.extras import add_unique
from taskqd.storage.sqlite.rows.transaction import ENDED, LATER, READY, Line, Transaction

_FORGET = "DELETE FROM job WHERE queue=? AND id=? AND state=? AND rank<=?"
_ADD = """
INSERT INTO job (queue, id, state, rank, pos, priority, record) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING RETURNING queue, id, state"""


def add(unit: Transaction, jobs: Sequence[Entry]) -> list[bool]:
    """Write jobs whose ids, and whose unique keys, are not known."""
    lines = {queue: unit.made_line(queue) for queue in {job.queue for job in jobs}}
    if any(job.unique for job in jobs):
        return add_unique(unit, lines, jobs, lambda some: _add(unit, lines, some))
    return _add(unit, lines, jobs)


def _add(unit: Transaction, lines: dict[str, Line], jobs: Sequence[Entry]) -> list[bool]:
    now = now_ms()
    db = unit.db
    db.many(_FORGET, [(lines[job.queue].id, job.id, ENDED, now) for job in jobs if not job.fresh])
    for queue, line in lines.items():
        later = [job.run_at_ms for job in jobs if job.run_at_ms > now and job.queue == queue]
        if later:
            unit.look_earlier(line, min(later))
    added = db.many(_ADD, [_row(lines[job.queue], job, now) for job in jobs])
    by_id = {line.id: line for line in lines.values()}
    ready: dict[int, int] = {}
    for queue_id, _, state in added:
        if state == READY:
            ready[queue_id] = ready.get(queue_id, 0) + 1
    for queue_id, count in ready.items():
        by_id[queue_id].ready += count
        unit.ring(by_id[queue_id], count)
    if len(added) == len(jobs):
        return [True] * len(jobs)
    new = {(queue_id, job_id) for queue_id, job_id, _ in added}
    return [_take(new, (lines[job.queue].id, job.id)) for job in jobs]


def _row(line: Line, job: Entry, now: int) -> tuple[int, str, int, int, int, int, bytes]:
    line.tail += 1
    if job.run_at_ms > now:
        return line.id, job.id, LATER, job.run_at_ms, line.tail, job.priority, job.payload
    return line.id, job.id, READY, 9 - job.priority, line.tail, job.priority, job.payload


def _take(new: set[tuple[int, str]], key: tuple[int, str]) -> bool:
    """Return whether `key` is new; the second one of a batch is not."""
    if key in new:
        new.remove(key)
        return True
    return False

"""Nodes that are silent: whether their lease is over, and what is kept of what was taken from them.

A lease ends by the monotonic clock, so that no jump of the wall clock can end or prolong it, and time
in which the machine sleeps does not count.  Only processes of one boot (and one time namespace) share
that clock; a lease given under another one begins anew, under ours, when it is first looked at: who
lives renews it under its own.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.json import encode

from taskqd.clock import monotonic_ns, now_ms
from taskqd.jobs.job import Outcome, State, join_record, strip_marks
from taskqd.storage import expiry
from taskqd.storage.rules import marks_of, node_of, rewrite
from taskqd.storage.sqlite.rows.transaction import (
    DEAD,
    ENDED,
    READY,
    SUSPECT,
    Line,
    Transaction,
)

_OTHERS = """
SELECT DISTINCT node.id, clock, expires_ms, coalesce(lease_ms, ?)
FROM node JOIN member ON member.node = node.id
JOIN queue ON queue.id = member.queue AND queue.space = node.space
WHERE node.space=? AND node.id<>? AND queue.name IN (SELECT value FROM json_each(?))"""
_PULSE = "SELECT last_ms, since_ms FROM pulse WHERE space=? AND clock=?"
_FEEL = """
INSERT INTO pulse (space, clock, last_ms, since_ms) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET clock=excluded.clock, last_ms=excluded.last_ms, since_ms=excluded.since_ms"""
_KEEP_TAKEN = """
INSERT INTO taken (queue, id, node, worker, token, attempts, blamed, until_ms)
VALUES (?, ?, ?, ?, ?, ?, 1, ?)
ON CONFLICT DO UPDATE SET node=excluded.node, worker=excluded.worker, token=excluded.token,
  attempts=excluded.attempts, blamed=1, until_ms=excluded.until_ms"""
_BLAMED = """
SELECT job.n, job.priority, job.state, job.suspect, job.record, taken.attempts
FROM taken JOIN job ON job.queue = taken.queue AND job.id = taken.id
WHERE taken.queue=? AND taken.node=? AND taken.blamed ORDER BY job.pos DESC"""
_UNBLAME = "UPDATE taken SET blamed=0 WHERE queue=? AND node=? AND blamed"
_LATE = """
SELECT job.n, job.state, job.reason, job.answer, job.record, taken.attempts
FROM taken JOIN job ON job.queue = taken.queue AND job.id = taken.id
WHERE taken.queue=? AND taken.id=? AND taken.worker=? AND taken.token=?"""
_END_ROW = "UPDATE job SET state=6, rank=?, pos=0, suspect=0, answer=?, record=x'' WHERE n=?"
_STATES = {READY: State.QUEUED, SUSPECT: State.QUEUED, DEAD: State.DEAD}
_BURY = """
UPDATE job SET state=5, rank=?, pos=?, suspect=0, reason=?, answer=?, record=? WHERE n=?"""


class NodeLease(NamedTuple):
    node: str
    clock: str
    ends_ms: int
    """By the clock of that name."""
    lease_ms: int


def others(unit: Transaction, queues: Sequence[str], spare: str) -> list[NodeLease]:
    """Return the leases of the nodes of these queues, but for one."""
    names = encode(list(queues)).decode()
    rows = unit.db.rows(_OTHERS, (expiry.LEASE_MS, unit.space, spare, names))
    return [NodeLease(*row) for row in rows]


def is_to_be_looked_at(lease: NodeLease) -> bool:
    now = monotonic_ms()
    return lease.clock != clock_name() or not now < lease.ends_ms <= now + lease.lease_ms


def over(unit: Transaction, leases: Sequence[NodeLease]) -> list[str]:
    """Return the nodes whose lease is over; one that ends too late, or by another clock, begins anew."""
    if not leases:
        return []
    pulse = feel_pulse(unit, min(lease.lease_ms for lease in leases))
    over = []
    for lease in leases:
        now = monotonic_ms()
        ours = lease.ends_ms if lease.clock == clock_name() else now + lease.lease_ms
        ends_ms = expiry.ends_by(ours, now, lease.lease_ms)
        if expiry.is_over(ends_ms, now, lease.lease_ms, pulse):
            over.append(lease.node)
        elif (lease.clock, lease.ends_ms) != (clock_name(), ends_ms):
            sql = "UPDATE node SET clock=?, expires_ms=? WHERE space=? AND id=?"
            unit.db.rows(sql, (clock_name(), ends_ms, unit.space, lease.node))
    return over


def feel_pulse(unit: Transaction, lease_ms: int) -> expiry.Pulse:
    row = unit.db.row(_PULSE, (unit.space, clock_name()))
    pulse = expiry.felt(expiry.Pulse(*row) if row else None, monotonic_ms(), lease_ms)
    unit.db.rows(_FEEL, (unit.space, clock_name(), *pulse))
    return pulse


def lease_times(lease_s: float) -> tuple[str, int, int, int]:
    """Return the clock, the end by it and by the wall clock, and the length of a lease from now on."""
    lease_ms = int(lease_s * 1000)
    return clock_name(), monotonic_ms() + lease_ms, now_ms() + lease_ms, lease_ms


def keep_taken(
    unit: Transaction, line: Line, job_id: str, worker: str, token: int, attempts: int
) -> None:
    """Remember a job that was taken from a node which may live."""
    until_ms = now_ms() + expiry.TAKEN_MS
    values = (line.id, job_id, node_of(worker), worker, token, attempts, until_ms)
    unit.db.rows(_KEEP_TAKEN, values)


def take_crashes_back(unit: Transaction, line: Line, node: str) -> int:
    """Have the crashes that `node` was blamed for count as interruptions; return how many there were."""
    count = 0
    for n, priority, state, suspect, record, attempts in unit.db.rows(_BLAMED, (line.id, node)):
        marks = marks_of(record)
        lighter = expiry.taken_back(marks, attempts)
        if lighter == marks:
            continue
        count += 1
        lighter_record = join_record(lighter, strip_marks(record))
        if state == SUSPECT and suspect:
            unit.forget_place(line, SUSPECT)
            unit.to_head(line, n, priority, lighter_record)
        else:
            unit.db.rows("UPDATE job SET record=? WHERE n=?", (lighter_record, n))
    unit.db.rows(_UNBLAME, (line.id, node))
    return count


def end_late(unit: Transaction, worker: str, outcome: Outcome) -> bool:
    """End a job that was taken from `worker`, if it has not started since."""
    line = unit.line(outcome.queue)
    row = line and unit.db.row(_LATE, (line.id, outcome.id, worker, outcome.token))
    if not line or not row:
        return False
    n, state, reason, answer, record, attempts = row
    if state == ENDED:
        return bool(answer == outcome.answer)
    if state not in _STATES or not expiry.counts_late(
        attempts, marks_of(record), _STATES[state], reason
    ):
        return False
    unit.forget_place(line, state)
    until = now_ms() + outcome.answer_ttl_s * 1000 if outcome.answer else 0
    unit.db.rows("DELETE FROM parked WHERE job=?", (n,))
    if outcome.kind == "bury":
        marked = rewrite(record, outcome.marks)
        unit.db.rows(_BURY, (now_ms(), until, outcome.reason, outcome.answer, marked, n))
    elif until:
        unit.db.rows(_END_ROW, (until, outcome.answer, n))
    else:
        unit.db.rows("DELETE FROM job WHERE n=?", (n,))
    unit.ended.append(outcome.id)
    return True


def monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


@functools.cache
def clock_name() -> str:
    """Return a text that is the same for all processes whose `monotonic_ms` can be compared."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/time')}"
    except OSError:
        # Without /proc nothing is comparable but this process; the wall clock decides.
        return f"process-{os.getpid()}-{monotonic_ns()}"

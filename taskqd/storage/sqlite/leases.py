"""Between a lease and its end, on SQLite: turns, releases, holdings, bells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskqd.clock import now_ms
from taskqd.errors import NodeExpired
from taskqd.jobs.job import Lease, Outcome
from taskqd.storage.base import Bell, Leased
from taskqd.storage.rules import (
    grant,
    heads_last,
    key_of,
    node_of,
    place,
    refusal_of_recovered,
    refusal_of_unregistered,
    release_key,
    rewrite,
)
from taskqd.storage.sqlite.file.bell import SqliteBell
from taskqd.storage.sqlite.file.wake import (
    queue_place,
    timer_place,
)
from taskqd.storage.sqlite.rows import letters
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.extras import (
    end_stopped,
    is_gone,
    wishes,
)
from taskqd.storage.sqlite.rows.silent_nodes import end_late
from taskqd.storage.sqlite.rows.transaction import READY, SUSPECT, Line, Transaction

_END = """
UPDATE job SET state=6, rank=?7, pos=0, suspect=0, answer=?6, record=x''
WHERE queue=?1 AND id=?2 AND state=4 AND rank=?3 AND pos=?4 RETURNING ?5, id, ?4"""
_DROP = """
DELETE FROM job
WHERE queue=?1 AND id=?2 AND state=4 AND rank=?3 AND pos=?4 RETURNING ?5, id, ?4"""
_HELD = """
SELECT n, priority, suspect, record, extras & 2 FROM job
WHERE queue=? AND id=? AND state=4 AND rank=? AND pos=?"""
_BURY = """
UPDATE job SET state=5, rank=?, pos=?, suspect=0, reason=?, answer=?, record=? WHERE n=?"""
_FIRST = """
SELECT n, id, record FROM job WHERE queue=? AND state=? ORDER BY rank, pos LIMIT ?"""
_HOLD = "UPDATE job SET state=4, rank=?, pos=? WHERE n=?"
_HOLDINGS = """
SELECT id, pos, record, suspect FROM job WHERE queue=? AND state=4 AND rank=?"""
Effects = set[tuple[str, str, int]]


class LeaseCalls(Base):
    """The contract's calls of workers."""

    def lease(
        self, worker: str, queues: Sequence[str], limit: int, *, alone: bool = False
    ) -> Leased:
        return self.turn(worker, (), queues, limit, alone=alone)

    def settle(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        return self.turn(worker, outcomes, (), 0).settled

    def turn(
        self,
        worker: str,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        limit: int,
        *,
        alone: bool = False,
        idle: bool = False,
        share: int = 1,
    ) -> Leased:
        node = node_of(worker)
        if not outcomes:
            nothing = self._look(worker, node, queues, limit)
            if nothing is not None:
                return nothing
        effects: Effects = set()

        def body(unit: Transaction) -> Leased:
            effects.clear()
            lines = unit.some(queues)
            if limit > 0:
                _check_worker(unit, worker, queues, lines)
            settle(unit, worker, outcomes, effects)
            leases = _lease(unit, worker, lines, limit, alone, share)
            for line in lines:
                unit.pass_on(line)
            known = self._effects.get(worker, effects)
            settled = [key_of(one) in effects or key_of(one) in known for one in outcomes]
            return _leased(unit, worker, settled, leases, lines)

        result = self._write(body, node=node)
        self._remember(worker, effects)
        return result

    def settle_late(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        return self._write(lambda unit: [end_late(unit, worker, one) for one in outcomes])

    def _look(self, worker: str, node: str, queues: Sequence[str], limit: int) -> Leased | None:
        """Return an empty turn where there is nothing to do, without taking the write lock."""
        unit = Transaction(self._db, self._space, node)
        lines = unit.some(queues)
        if limit > 0:
            _check_worker(unit, worker, queues, lines)
            if any(line.waiting() for line in lines):
                return None
        return _leased(unit, worker, [], [], lines)

    def release(self, worker: str, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        effects: Effects = set()

        def body(unit: Transaction) -> list[bool]:
            effects.clear()
            for job_id, queue, token in sorted(leases, key=lambda lease: lease[2], reverse=True):
                line = unit.line(queue)
                row = line and unit.db.row(_HELD, (line.id, job_id, worker, token))
                if line and row:
                    n, priority, suspect, _, _ = row
                    if not end_stopped(unit, n, job_id):
                        unit.to_head(line, n, priority, None, suspect=bool(suspect))
                    effects.add(release_key(job_id, queue, token))
            known = self._effects.get(worker, effects)
            return [release_key(*lease) in effects | known for lease in leases]

        result = self._write(body)
        self._remember(worker, effects)
        return result

    def _remember(self, worker: str, effects: Effects) -> None:
        if effects:
            self._effects[worker] = effects

    def holdings(self, worker: str, queues: Sequence[str]) -> list[Lease]:
        found = [
            Lease(job_id, line.name, token, record, alone=bool(suspect))
            for line in Transaction(self._db, self._space).some(queues)
            for job_id, token, record, suspect in self._db.rows(_HOLDINGS, (line.id, worker))
        ]
        return sorted(found, key=lambda lease: lease.token)

    def bell(self, worker: str, queues: Sequence[str]) -> Bell:
        return SqliteBell(self._wake, lambda: self._places(queues), lambda: self._pass_on(queues))

    def _places(self, queues: Sequence[str]) -> list[str]:
        return [queue_place(line.id) for line in Transaction(self._db, self._space).some(queues)]

    def _pass_on(self, queues: Sequence[str]) -> None:
        unit = Transaction(self._db, self._space)
        for line in unit.some(queues):
            unit.pass_on(line)
        unit.wake(self._wake)

    def timer_bell(self, queues: Sequence[str]) -> Bell:
        return SqliteBell(self._wake, lambda: [timer_place(self._space)], lambda: None)


def settle(unit: Transaction, worker: str, outcomes: Sequence[Outcome], effects: Effects) -> None:
    """End the leases whose tokens are current, and add them to `effects`."""
    now = now_ms()
    ends: list[tuple[object, ...]] = []
    drops: list[tuple[object, ...]] = []
    for outcome in heads_last(outcomes):
        line = unit.line(outcome.queue)
        if line is None:
            continue
        if outcome.kind not in ("ack", "cancel"):
            _end_lease(unit, worker, line, outcome, now, effects)
            continue
        key = (line.id, outcome.id, worker, outcome.token, outcome.queue)
        if outcome.answer and outcome.answer_ttl_s > 0:
            ends.append((*key, outcome.answer, now + outcome.answer_ttl_s * 1000))
        else:
            drops.append(key)
    ended = unit.db.many(_END, ends) if ends else []
    effects.update(ended)
    unit.ended += [job_id for _, job_id, _ in ended]
    if drops:
        effects.update(unit.db.many(_DROP, drops))


def _end_lease(
    unit: Transaction, worker: str, line: Line, outcome: Outcome, now: int, effects: Effects
) -> None:
    row = unit.db.row(_HELD, (line.id, outcome.id, worker, outcome.token))
    if row is None:
        return
    n, priority, _, record, called = row
    where = place(outcome, called=bool(called))
    if where != "dead" and end_stopped(unit, n, outcome.id):
        effects.add(key_of(outcome))
        return
    record = rewrite(record, outcome.marks)
    if where == "head":
        unit.to_head(line, n, priority, record)
    elif where == "tail":
        unit.to_tail(line, n, priority, record)
    elif where == "later":
        unit.to_later(line, n, now + outcome.delay_ms, record)
    else:
        until = now + outcome.answer_ttl_s * 1000 if outcome.answer else 0
        unit.db.rows(_BURY, (now, until, outcome.reason, outcome.answer, record, n))
        if outcome.parked:
            letters.park(unit, line, n, outcome.parked, node_of(worker), now)
        unit.ended.append(outcome.id)
    effects.add(key_of(outcome))


def _check_worker(
    unit: Transaction, worker: str, queues: Sequence[str], lines: Sequence[Line]
) -> None:
    if is_gone(unit, worker):
        raise NodeExpired(refusal_of_recovered(worker))
    served = {line.name for line in lines if line.is_served}
    missing = [name for name in queues if name not in served]
    if missing:
        raise NodeExpired(refusal_of_unregistered(worker, missing))


def _lease(
    unit: Transaction, worker: str, lines: Sequence[Line], limit: int, alone: bool, share: int
) -> list[Lease]:
    leases: list[Lease] = []
    for line in lines:
        count = limit - len(leases)
        if count <= 0:
            break
        if line.paused:
            continue
        if alone and not leases and line.suspects:
            line.suspects -= 1
            return _hold(unit, worker, line, SUSPECT, 1)
        before, after = letters.split(unit, line, node_of(worker), count, share)
        leases += _hold_letters(unit, worker, line, before)
        ready = min(grant(count, line.ready, share), line.ready, limit - len(leases))
        if ready:
            line.ready -= ready
            leases += _hold(unit, worker, line, READY, ready)
        leases += _hold_letters(unit, worker, line, after[: limit - len(leases)])
    return leases


def _hold_letters(
    unit: Transaction, worker: str, line: Line, found: list[letters.KnownLetter]
) -> list[Lease]:
    if not found:
        return []
    letters.take(unit, found)
    rows = [(letter.n, letter.id, letter.record) for letter in found]
    return _hold_rows(unit, worker, line, rows, alone=False)


def _hold(unit: Transaction, worker: str, line: Line, state: int, count: int) -> list[Lease]:
    rows = unit.db.rows(_FIRST, (line.id, state, count))
    return _hold_rows(unit, worker, line, rows, alone=state == SUSPECT)


def _hold_rows(
    unit: Transaction, worker: str, line: Line, rows: Sequence[Any], *, alone: bool
) -> list[Lease]:
    [(token,)] = unit.db.rows("UPDATE store SET token=token+? RETURNING token", (len(rows),))
    first = token - len(rows) + 1
    unit.db.many(_HOLD, [(worker, first + i, row[0]) for i, row in enumerate(rows)])
    return [
        Lease(job_id, line.name, first + i, record, alone=alone)
        for i, (_, job_id, record) in enumerate(rows)
    ]


def _leased(
    unit: Transaction,
    worker: str,
    settled: list[bool],
    leases: list[Lease],
    lines: Sequence[Line],
) -> Leased:
    stops, orders = wishes(unit, worker)
    active = [line for line in lines if not line.paused]
    return Leased(
        settled,
        leases,
        sum(line.ready for line in active),
        sum(line.suspects for line in active),
        stops,
        orders,
    )

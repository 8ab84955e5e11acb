"""Nodes, and the recovery of what dead ones hold, on SQLite."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from taskqd.clock import now_ms
from taskqd.jobs.job import Reason
from taskqd.storage.base import Node, NodeRow, Recovered
from taskqd.storage.rules import (
    HeldJob,
    RecoveredJob,
    node_of,
    recover_jobs,
)
from taskqd.storage.sqlite.rows.base import Base
from taskqd.storage.sqlite.rows.extras import (
    end_stopped,
    free_places,
    mark_gone,
    owners_of,
)
from taskqd.storage.sqlite.rows.silent_nodes import (
    clock_name,
    feel_pulse,
    is_to_be_looked_at,
    keep_taken,
    lease_times,
    monotonic_ms,
    others,
    over,
    take_crashes_back,
)
from taskqd.storage.sqlite.rows.transaction import Line, Transaction

_REGISTER = """
INSERT INTO node (space, id, node, clock, expires_ms, wall_ms, lease_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET node=excluded.node, clock=excluded.clock, expires_ms=excluded.expires_ms,
  wall_ms=excluded.wall_ms, lease_ms=excluded.lease_ms"""
_RENEW = "UPDATE node SET clock=?, expires_ms=?, wall_ms=?, lease_ms=? WHERE space=? AND id=?"
_WORKERS = """
SELECT DISTINCT rank FROM job WHERE queue=? AND state=4 AND rank>=? AND rank<?"""
_TOKENS = "SELECT id, pos FROM job WHERE queue=? AND state=4 AND rank>=? AND rank<?"
_HELD = """
SELECT n, id, pos, priority, suspect, record FROM job
WHERE queue=? AND state=4 AND rank=? ORDER BY pos"""
_MEMBERSHIPS = """
SELECT count(*) FROM member JOIN queue ON queue.id = member.queue
WHERE member.node=? AND queue.space=?"""
_COUNTS = """
SELECT rank, count(*) FROM job JOIN queue ON queue.id = job.queue
WHERE queue.space=? AND job.state=4 GROUP BY rank"""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Node).decode


class NodeCalls(Base):
    """The contract's calls of daemons."""

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> int:
        def body(unit: Transaction) -> int:
            times = lease_times(lease_s)
            unit.db.rows(_REGISTER, (unit.space, node.id, _encode(node), *times))
            lines = [unit.made_line(queue) for queue in queues]
            unit.db.many(
                "INSERT INTO member (queue, node) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(line.id, node.id) for line in lines],
            )
            feel_pulse(unit, int(lease_s * 1000))
            return sum(take_crashes_back(unit, line, node.id) for line in lines)

        return self._write(body)

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        def body(unit: Transaction) -> bool:
            served = [line.name for line in unit.some(queues) if line.is_served]
            if len(served) < len(set(queues)):
                return False
            feel_pulse(unit, int(lease_s * 1000))
            return unit.db.count(_RENEW, (*lease_times(lease_s), unit.space, node)) == 1

        return self._write(body, node=node)

    def retire(self, node: str, queues: Sequence[str]) -> None:
        self._write(lambda unit: _take_node(unit, node, queues, "released"))
        self._forget_effects(lambda worker: node_of(worker) == node)

    def recover(self, queues: Sequence[str], *, spare: str = "") -> list[Recovered]:
        if not any(is_to_be_looked_at(node) for node in others(self._reader(), queues, spare)):
            return []

        def body(unit: Transaction) -> list[Recovered]:
            nodes = [n for n in others(unit, queues, spare) if is_to_be_looked_at(n)]
            return [row for node in over(unit, nodes) for row in _take_silent(unit, node, queues)]

        return self._write(body)

    def next_expiry_s(self, queues: Sequence[str], *, spare: str = "") -> float | None:
        nodes = others(self._reader(), queues, spare)
        now = monotonic_ms()
        return min(((node.ends_ms - now) / 1000 for node in nodes), default=None)

    def recover_node(self, node: str, queues: Sequence[str]) -> list[Recovered]:
        return self._write(lambda unit: _take_node(unit, node, queues, Reason.ORPHANED))

    def recover_worker(
        self,
        worker: str,
        queues: Sequence[str],
        *,
        running: Sequence[int],
        how: str,
        verdict: str = "",
    ) -> list[Recovered]:
        self._forget_effects(lambda known: known == worker)
        started = set(running)

        def body(unit: Transaction) -> list[Recovered]:
            mark_gone(unit, worker)
            return _take_worker(unit, worker, unit.some(queues), started, how, verdict)

        return self._write(body)

    def nodes(self) -> list[NodeRow]:
        workers: dict[str, dict[str, int]] = {}
        for worker, count in self._db.rows(_COUNTS, (self._space,)):
            workers.setdefault(node_of(worker), {})[worker] = count
        rows = self._db.rows(
            "SELECT node, clock, expires_ms, wall_ms FROM node WHERE space=?", (self._space,)
        )
        found = []
        for data, clock, expires_ms, wall_ms in rows:
            node = _decode(data)
            left = expires_ms - monotonic_ms() if clock == clock_name() else wall_ms - now_ms()
            found.append(NodeRow(node, left / 1000, workers.get(node.id, {})))
        return found


def _take_silent(unit: Transaction, node: str, queues: Sequence[str]) -> list[Recovered]:
    """Take what a node holds that may live, and keep what a late word of it needs."""
    tokens = {
        (line.id, job_id): token
        for line in unit.some(queues)
        for job_id, token in unit.db.rows(_TOKENS, (line.id, f"{node}.", f"{node}/"))
    }
    recovered = _take_node(unit, node, queues, Reason.ORPHANED)
    for row in recovered:
        line = unit.line(row.queue)
        if line is not None and row.how == Reason.ORPHANED:
            token = tokens[line.id, row.id]
            keep_taken(unit, line, row.id, row.worker, token, row.marks.attempts)
    return recovered


def _take_node(unit: Transaction, node: str, queues: Sequence[str], how: str) -> list[Recovered]:
    """Recover what all workers of a node hold, and forget the node for these queues."""
    lines = unit.some(queues)
    workers = {
        worker: None
        for line in lines
        for (worker,) in unit.db.rows(_WORKERS, (line.id, f"{node}.", f"{node}/"))
        if node_of(worker) == node
    } | dict.fromkeys(owners_of(unit, node))
    recovered = [
        row for worker in workers for row in _take_worker(unit, worker, lines, None, how, "")
    ]
    unit.db.many("DELETE FROM member WHERE queue=? AND node=?", [(line.id, node) for line in lines])
    unit.db.many("DELETE FROM knower WHERE queue=? AND node=?", [(line.id, node) for line in lines])
    if unit.db.rows(_MEMBERSHIPS, (node, unit.space)) == [(0,)]:
        unit.db.rows("DELETE FROM node WHERE space=? AND id=?", (unit.space, node))
    return recovered


def _take_worker(
    unit: Transaction,
    worker: str,
    lines: Sequence[Line],
    running: Collection[int] | None,
    how: str,
    verdict: str,
) -> list[Recovered]:
    held: list[HeldJob] = []
    places: list[tuple[Line, int, int]] = []
    for line in lines:
        for n, job_id, token, priority, suspect, record in unit.db.rows(_HELD, (line.id, worker)):
            held.append(HeldJob(job_id, token, bool(suspect), record))
            places.append((line, n, priority))
    taken = recover_jobs(held, running, how, verdict)
    facts = []
    for item, (line, n, priority) in reversed(list(zip(taken, places, strict=True))):
        if not end_stopped(unit, n, item.held.id):
            unit.to_head(line, n, priority, item.record, suspect=item.suspect)
            facts.append(_fact(item, line, worker))
    free_places(unit, worker)
    return facts[::-1]


def _fact(item: RecoveredJob, line: Line, worker: str) -> Recovered:
    return Recovered(item.held.id, line.name, worker, item.how, item.marks, item.suspect)

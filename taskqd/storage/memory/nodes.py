"""Nodes, and the recovery of what dead ones hold, in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskqd.jobs.job import Reason, State, join_record, strip_marks
from taskqd.storage import expiry
from taskqd.storage.base import Node, NodeRow, Recovered
from taskqd.storage.memory.limits import free_locks_of, lock_owners
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.space import NodeState, Space, Taken, held_job
from taskqd.storage.rules import (
    GONE_MS,
    marks_of,
    node_of,
    recover_jobs,
)


class NodeCalls(Base):
    """The contract's calls of daemons."""

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> int:
        space = self._space
        with space.lock:
            state = space.nodes.setdefault(node.id, NodeState(node))
            state.node = node
            state.queues.update(queues)
            self._renew(state, lease_s)
            for queue in queues:
                space.line(queue)
            return sum(self._take_crash_back(*key) for key in self._blamed_on(node.id, queues))

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        space = self._space
        with space.lock:
            state = space.nodes.get(node)
            if state is None or not state.queues.issuperset(queues):
                return False
            self._renew(state, lease_s)
            return True

    def _renew(self, state: NodeState, lease_s: float) -> None:
        space, now, lease_ms = self._space, self._space.lease_ms(), int(lease_s * 1000)
        state.expires_ms, state.lease_ms = now + lease_ms, lease_ms
        space.pulse = expiry.felt(space.pulse, now, lease_ms)

    def _blamed_on(self, node: str, queues: Sequence[str]) -> list[tuple[str, str]]:
        """Return (queue, job id), the latest first: suspects go back to the head one by one."""
        return [
            key
            for key, taken in reversed(self._space.taken.items())
            if taken.blamed and key[0] in queues and node_of(taken.worker) == node
        ]

    def _take_crash_back(self, queue: str, job_id: str) -> bool:
        """Have the crash of a job count as an interruption; return whether it was counted."""
        space = self._space
        taken = space.taken[queue, job_id]
        space.taken[queue, job_id] = taken._replace(blamed=False)
        job = space.line(queue).jobs.get(job_id)
        if job is None or not job.record:
            return False
        marks = marks_of(job.record)
        lighter = expiry.taken_back(marks, taken.attempts)
        if lighter == marks:
            return False
        job.record = join_record(lighter, strip_marks(job.record))
        if job.suspect and job.state is State.QUEUED:
            space.line(queue).clear_of_suspicion(job)
        return True

    def retire(self, node: str, queues: Sequence[str]) -> None:
        with self._space.lock:
            self._take_node(node, queues, "released")

    def recover(self, queues: Sequence[str], *, spare: str = "") -> list[Recovered]:
        space = self._space
        with space.lock:
            now = space.lease_ms()
            others = [state for state in space.nodes.values() if state.node.id != spare]
            for state in others:
                state.expires_ms = expiry.ends_by(state.expires_ms, now, state.lease_ms)
            ended = [state for state in others if state.expires_ms <= now]
            if not ended:
                return []
            pulse = space.pulse = expiry.felt(space.pulse, now, min(s.lease_ms for s in ended))
            return [
                row
                for state in ended
                if expiry.is_over(state.expires_ms, now, state.lease_ms, pulse)
                for row in self._take_silent(state.node.id, queues)
            ]

    def _take_silent(self, node: str, queues: Sequence[str]) -> list[Recovered]:
        """Take what a node holds that may live, and keep what a late word of it needs."""
        space = self._space
        held = {
            (line.name, job.id): job.token
            for line in space.some(queues)
            for worker in line.held
            if node_of(worker) == node
            for job in line.holding(worker)
        }
        recovered = self._take_node(node, queues, Reason.ORPHANED)
        until_ms = space.wall_ms() + expiry.TAKEN_MS
        for row in recovered:
            if row.how == Reason.ORPHANED:
                key = row.queue, row.id
                attempts = row.marks.attempts
                space.taken.pop(key, None)  # The latest is last.
                space.taken[key] = Taken(row.worker, held[key], attempts, True, until_ms)
        return recovered

    def next_expiry_s(self, queues: Sequence[str], *, spare: str = "") -> float | None:
        space = self._space
        with space.lock:
            ends = [
                state.expires_ms
                for state in space.nodes.values()
                if state.node.id != spare and not state.queues.isdisjoint(queues)
            ]
            return (min(ends) - space.lease_ms()) / 1000 if ends else None

    def recover_node(self, node: str, queues: Sequence[str]) -> list[Recovered]:
        with self._space.lock:
            return self._take_node(node, queues, Reason.ORPHANED)

    def recover_worker(
        self,
        worker: str,
        queues: Sequence[str],
        *,
        running: Sequence[int],
        how: str,
        verdict: str = "",
    ) -> list[Recovered]:
        with self._space.lock:
            self._space.gone[worker] = self._space.wall_ms() + GONE_MS
            return self._take_worker(worker, queues, set(running), how, verdict)

    def _take_node(self, node: str, queues: Sequence[str], how: str) -> list[Recovered]:
        space = self._space
        workers = {
            worker: None
            for line in space.some(queues)
            for worker in line.held
            if node_of(worker) == node
        } | dict.fromkeys(w for w in lock_owners(space) if node_of(w) == node)
        recovered = [
            row for worker in workers for row in self._take_worker(worker, queues, None, how, "")
        ]
        state = space.nodes.get(node)
        for line in space.some(queues):
            line.forget_knower(node)
        if state is not None:
            state.queues.difference_update(queues)
            if not state.queues:
                del space.nodes[node]
                for worker in [name for name in space.effects if node_of(name) == node]:
                    del space.effects[worker]
        return recovered

    def _take_worker(
        self,
        worker: str,
        queues: Sequence[str],
        running: Collection[int] | None,
        how: str,
        verdict: str,
    ) -> list[Recovered]:
        space = self._space
        lines = space.some(queues)
        jobs = [held_job(job) for line in lines for job in line.holding(worker)]
        taken = recover_jobs(jobs, running, how, verdict)
        space.effects.pop(worker, None)
        free_locks_of(space, worker)
        recovered = []
        for line in lines:
            mine = len(line.holding(worker))
            recovered += space.apply(line, taken[:mine])
            taken = taken[mine:]
        return recovered

    def nodes(self) -> list[NodeRow]:
        space = self._space
        with space.lock:
            now = space.lease_ms()
            return [
                NodeRow(state.node, (state.expires_ms - now) / 1000, _workers(space, state))
                for state in space.nodes.values()
            ]


def _workers(space: Space, state: NodeState) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in space.lines.values():
        for worker, jobs in line.held.items():
            if node_of(worker) == state.node.id:
                counts[worker] = counts.get(worker, 0) + len(jobs)
    return counts

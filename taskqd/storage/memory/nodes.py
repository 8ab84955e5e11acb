"""Nodes, and the recovery of what dead ones hold, in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskqd.jobs.job import Reason
from taskqd.storage.base import Node, NodeRow, Recovered
from taskqd.storage.memory.limits import free_locks_of, lock_owners
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.space import NodeState, Space, held_job
from taskqd.storage.rules import (
    GONE_MS,
    node_of,
    recover_jobs,
)


class NodeCalls(Base):
    """The contract's calls of daemons."""

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> None:
        space = self._space
        with space.lock:
            state = space.nodes.setdefault(node.id, NodeState(node))
            state.node = node
            state.queues.update(queues)
            state.expires_ms = space.lease_ms() + int(lease_s * 1000)
            for queue in queues:
                space.line(queue)

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        space = self._space
        with space.lock:
            state = space.nodes.get(node)
            if state is None or not state.queues.issuperset(queues):
                return False
            state.expires_ms = space.lease_ms() + int(lease_s * 1000)
            return True

    def retire(self, node: str, queues: Sequence[str]) -> None:
        with self._space.lock:
            self._take_node(node, queues, "released")

    def recover(self, queues: Sequence[str]) -> list[Recovered]:
        space = self._space
        with space.lock:
            now = space.lease_ms()
            gone = [state.node.id for state in space.nodes.values() if state.expires_ms < now]
            return [row for node in gone for row in self.recover_node(node, queues)]

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

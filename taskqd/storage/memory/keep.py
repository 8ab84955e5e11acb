"""Nodes, recovery, time and answers of the memory storage."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskqd.jobs.job import Entry, Reason, State
from taskqd.storage.base import Due, Fired, Node, NodeRow, Recovered
from taskqd.storage.memory.features import forget_old, free_locks_of, lock_owners
from taskqd.storage.memory.line import Job, Line
from taskqd.storage.memory.space import NodeState, Space, held
from taskqd.storage.rules import GONE_MS, node_of, split_tick, take_back


class Keep:
    """Everything that a scheduler and a waiting caller need."""

    _space: Space

    # -- nodes and recovery ----------------------------------------------------------------

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
        jobs = [held(job) for line in lines for job in line.holding(worker)]
        taken = take_back(jobs, running, how, verdict)
        space.effects.pop(worker, None)
        free_locks_of(space, worker)
        recovered = []
        for line in lines:
            mine = len(line.holding(worker))
            recovered += space.apply(line, taken[:mine])
            taken = taken[mine:]
        return recovered

    # -- time ------------------------------------------------------------------------------

    def promote(self, queues: Sequence[str], limit: int = 1000) -> Due:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            promoted = sum(_promote(space, line, now, limit) for line in space.some(queues))
            due = [job.at_ms for line in space.some(queues) if (job := line.earliest())]
            return Due(promoted, max(0, min(due) - now) / 1000 if due else None)

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        key = split_tick(tick)
        space = self._space
        with space.lock:
            now = space.wall_ms()
            if space.ticks.get(key, 0) > now:
                return Fired.BEFORE
            space.ticks[key] = now + ttl_s * 1000
            new = [entry for entry in jobs if space.add(entry)]
            for entry in new:
                space.ring(entry.queue, 1)
            return Fired.HELD if jobs and not new else Fired.NOW

    def last_tick(self, name: str) -> int | None:
        with self._space.lock:
            now = self._space.wall_ms()
            known = self._space.ticks.items()
            return max(
                (ms for (of, ms), until in known if of == name and until > now), default=None
            )

    def purge(self, queues: Sequence[str], *, dead_ttl_s: int, dead_max: int) -> int:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            old = [tick for tick, until in space.ticks.items() if until <= now]
            for tick in old:
                del space.ticks[tick]
            lines = space.some(queues)
            forget_old(space)
            return len(old) + sum(_purge(line, now, dead_ttl_s, dead_max) for line in lines)

    # -- answers ---------------------------------------------------------------------------

    def answer(self, job_id: str, queue: str | None = None) -> bytes | None:
        return self.answers([(job_id, queue)])[0]

    def answers(self, jobs: Sequence[tuple[str, str | None]]) -> list[bytes | None]:
        with self._space.lock:
            return [self._answer(job_id, queue) for job_id, queue in jobs]

    def _answer(self, job_id: str, queue: str | None) -> bytes | None:
        found = self._space.find(job_id, queue)
        if found is None or found[1].state not in (State.DONE, State.DEAD):
            return None
        job = found[1]
        return job.answer if job.answer and job.answer_until_ms > self._space.wall_ms() else None

    def wait(self, jobs: Sequence[tuple[str, str | None]], timeout_s: float) -> None:
        with self._space.answered:
            self._space.answered.wait_for(lambda: any(self.answers(jobs)), timeout_s)

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


def _promote(space: Space, line: Line, now_ms: int, limit: int) -> int:
    promoted = 0
    while promoted < limit and (job := line.earliest()) and job.at_ms <= now_ms:
        line.to_tail(job)
        promoted += 1
    if not line.paused:
        space.ring(line.name, promoted)
    return promoted


def _purge(line: Line, now_ms: int, dead_ttl_s: int, dead_max: int) -> int:
    gone: list[Job] = [job for job in line.dead.values() if job.at_ms <= now_ms - dead_ttl_s * 1000]
    gone += list(line.dead.values())[len(gone) : len(line.dead) - dead_max]
    for job in gone:
        line.to_ended(job, now_ms)
    old = [job for job in line.ended.values() if job.answer_until_ms <= now_ms]
    for job in old:
        line.to_nowhere(job)
    return len(gone) + len(old)

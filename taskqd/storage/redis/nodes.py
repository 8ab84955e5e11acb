"""Nodes, and the recovery of what dead ones hold, on Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from taskqd.clock import monotonic_s
from taskqd.jobs.job import NO_MARKS, Marks
from taskqd.storage.base import Node, NodeRow, Recovered
from taskqd.storage.redis.keyspace.base import Base, server_ms
from taskqd.storage.redis.limits import free_locks_of, free_locks_of_nodes
from taskqd.storage.redis.link.clock_guard import ClockGuard

_decode_marks = msgspec.json.Decoder(Marks).decode
_decode_node = msgspec.json.Decoder(Node).decode


class _Subject(NamedTuple):
    """Whose jobs are recovered, and how."""

    mode: str
    """"expired", "node" or "worker"."""
    name: str
    how: str
    verdict: str = ""
    running: Sequence[int] | None = None


class NodeCalls(Base):
    """The contract's calls of daemons."""

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> None:
        self._lease_s = lease_s
        self.announce_again(queues)
        info = msgspec.json.encode(node)
        self.run_each("register", queues, [node.id, int(lease_s * 1000), info])

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        self._lease_s = lease_s
        before_s = monotonic_s()
        replies = self.run_each("heartbeat", queues, [node, int(lease_s * 1000)])
        after_s = monotonic_s()
        for queue, (_, told_ms) in zip(queues, replies, strict=True):
            self._guard(queue).note(told_ms, before_s, after_s, lease_s)
        # Last: of a cluster, another server may have the list, and be dead.
        self.announce_again(queues)
        return all(known for known, _ in replies)

    def retire(self, node: str, queues: Sequence[str]) -> None:
        self._recover(queues, _Subject("node", node, "released"))

    def nodes(self) -> list[NodeRow]:
        found: dict[str, NodeRow] = {}
        for reply in self.run_each("nodes", self.known_queues(), write=False):
            for name, info, left_ms, *crew in reply:
                row = _node_row(name.decode(), info, left_ms, crew)
                found[row.node.id] = _merged(found.get(row.node.id), row)
        return list(found.values())

    def recover(self, queues: Sequence[str]) -> list[Recovered]:
        return self._recover(self._steady(queues), _Subject("expired", "", "orphaned"))

    def _steady(self, queues: Sequence[str]) -> list[str]:
        """Return the queues whose server's clock has not jumped lately."""
        steady: list[str] = []
        for server, some in self.by_server(queues).items():
            before_s = monotonic_s()
            reading = server_ms(server), before_s, monotonic_s(), self._lease_s
            steady += [queue for queue in some if self._guard(queue).note(*reading)]
        return steady

    def _guard(self, queue: str) -> ClockGuard:
        return self._guards.setdefault(queue, ClockGuard())

    def recover_node(self, node: str, queues: Sequence[str]) -> list[Recovered]:
        return self._recover(queues, _Subject("node", node, "orphaned"))

    def recover_worker(
        self,
        worker: str,
        queues: Sequence[str],
        *,
        running: Sequence[int],
        how: str,
        verdict: str = "",
    ) -> list[Recovered]:
        return self._recover(queues, _Subject("worker", worker, how, verdict, running))

    def _recover(self, queues: Sequence[str], subject: _Subject) -> list[Recovered]:
        held = self._survey(queues, subject)
        if not held:
            return []
        several = [worker for worker, jobs in held.items() if jobs > 1]
        tokens = [-1] if subject.running is None else [len(subject.running), *subject.running]
        args: list[Any] = [subject.mode, subject.name, subject.how, subject.verdict]
        args += [len(several), *several, *tokens]
        replies = self.run_each("recover", queues, args)
        if subject.mode == "worker":
            free_locks_of(self, [subject.name], gone=True)
        free_locks_of_nodes(self, {node.decode() for nodes, *_ in replies for node in nodes})
        return [
            _recovered(queue, *reply[at : at + 5])
            for queue, reply in zip(queues, replies, strict=True)
            for at in range(1, len(reply), 5)
        ]

    def _survey(self, queues: Sequence[str], subject: _Subject) -> dict[str, int]:
        """Return worker -> jobs held in all queues together; {} if there is nothing to do."""
        args = [subject.mode, subject.name, *(subject.running or ())]
        held: dict[str, int] = {}
        for reply in self.run_each("survey", queues, args, write=False):
            for worker, jobs in zip(reply[::2], reply[1::2], strict=True):
                name = worker.decode()
                held[name] = held.get(name, 0) + jobs
        return held


def _recovered(
    queue: str, job_id: bytes, worker: bytes, how: bytes, marks: bytes, suspect: int
) -> Recovered:
    return Recovered(
        job_id.decode(), queue, worker.decode(), how.decode(), _marks(marks), bool(suspect)
    )


def _marks(line: bytes) -> Marks:
    try:
        return _decode_marks(line) if line else NO_MARKS
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NO_MARKS


def _node_row(name: str, info: bytes, left_ms: int, crew: Sequence[Any]) -> NodeRow:
    try:
        node = _decode_node(info)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        node = Node(name)
    workers = {worker.decode(): jobs for worker, jobs in zip(crew[::2], crew[1::2], strict=True)}
    return NodeRow(node, left_ms / 1000, workers)


def _merged(old: NodeRow | None, new: NodeRow) -> NodeRow:
    """Join what two queues know of one node."""
    if old is None:
        return new
    workers = dict(old.workers)
    for worker, jobs in new.workers.items():
        workers[worker] = workers.get(worker, 0) + jobs
    return NodeRow(new.node, min(old.expires_in_s, new.expires_in_s), workers)

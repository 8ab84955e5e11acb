"""Nodes, and the recovery of what dead ones hold, on Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from taskqd.jobs.job import NO_MARKS, Marks
from taskqd.storage.base import Node, NodeRow, Recovered
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.limits import free_locks_of, free_locks_of_nodes

_TAKE_BACK_MAX = 200
"""Jobs in one call of a script, so that it holds the server for a moment only."""
_decode_marks = msgspec.json.Decoder(Marks).decode
_decode_node = msgspec.json.Decoder(Node).decode


class _Subject(NamedTuple):
    """Whose jobs are recovered, and how."""

    mode: str
    """"silent", "node" or "worker"."""
    name: str
    """silent: of a node that is known to live."""
    how: str
    verdict: str = ""
    running: Sequence[int] | None = None


class NodeCalls(Base):
    """The contract's calls of daemons."""

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> int:
        self.announce_again(queues)
        args = [node.id, int(lease_s * 1000), msgspec.json.encode(node)]
        blamed = self.run_each("register", queues, args)
        return sum(
            self._take_crashes_back(node.id, queue)
            for queue, some in zip(queues, blamed, strict=True)
            if some
        )

    def _take_crashes_back(self, node: str, queue: str) -> int:
        count, more = 0, 1
        while more:
            more, some = self.run("take_back", queue, [node, _TAKE_BACK_MAX])
            count += some
        return count

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        known = self.run_each("heartbeat", queues, [node, int(lease_s * 1000)])
        # Last: of a cluster, another server may have the list, and be dead.
        self.announce_again(queues)
        return all(known)

    def retire(self, node: str, queues: Sequence[str]) -> None:
        self._recover(queues, _Subject("node", node, "released"))

    def nodes(self) -> list[NodeRow]:
        found: dict[str, NodeRow] = {}
        for reply in self.run_each("nodes", self.known_queues(), write=False):
            for name, info, left_ms, *crew in reply:
                row = _node_row(name.decode(), info, left_ms, crew)
                found[row.node.id] = _merged(found.get(row.node.id), row)
        return list(found.values())

    def recover(self, queues: Sequence[str], *, spare: str = "") -> list[Recovered]:
        return self._recover(queues, _Subject("silent", spare, "orphaned"))

    def next_expiry_s(self, queues: Sequence[str], *, spare: str = "") -> float | None:
        ends = self.run_each("next_expiry", queues, [spare], write=False)
        return min((left_ms / 1000 for left_ms in ends if left_ms is not None), default=None)

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

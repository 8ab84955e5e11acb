"""Ask a real storage to do what a path through the states says, and compare its answers.

Every path has a queue, nodes and workers of its own, so that thousands share one storage.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from taskqd.errors import NodeExpired
from taskqd.jobs.job import NO_MARKS, Entry, Lease, Outcome, split_record
from taskqd.storage.base import Node, Storage
from tests.property.protocol import JOBS, WORKERS, End, Move, State
from tests.support.rigs.rig import done, payload
from tests.support.servers.passing_time import pass_unserved

LEASE_S = 600.0
EXPIRED_S = 0.001
_numbers = itertools.count()


class Replay:
    """One path."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        name = f"{os.getpid()}-{next(_numbers)}"
        self._queues = [f"q{name}"]
        self._name = f"n{name}"
        self._tokens: dict[tuple[int, int], int] = {}
        """(job, number of its lease) -> the storage's token."""
        self._leases = dict.fromkeys(JOBS, 0)
        self._marks = dict.fromkeys(JOBS, NO_MARKS)
        for node in WORKERS:
            self.register(node)

    def run(self, path: Sequence[Move]) -> None:
        for number, move in enumerate(path):
            said = getattr(self, move.call)(*move.args)
            told = f"step {number} of {[(m.call, m.args) for m in path]}"
            assert _agree(said, move), f"{said!r}, expected {move.answer!r}: {told}"
        if path:
            self._compare(path[-1].state)

    # -- calls ---------------------------------------------------------------------------------

    def register(self, node: int) -> int:
        return self._storage.register(Node(self._node(node)), self._queues, LEASE_S)

    def put(self, job: int) -> bool:
        entry = Entry(self._id(job), self._queues[0], payload(self._id(job)), fresh=False)
        return self._storage.enqueue([entry])[0]

    def lease(self, worker: int, alone: bool) -> tuple[int, ...] | None:
        try:
            turn = self._storage.turn(self._worker(worker), (), self._queues, 1, alone=alone)
        except NodeExpired:
            return None
        return tuple(self._leased(lease) for lease in turn.leases)

    def settle(self, worker: int, ended: Sequence[End]) -> tuple[bool, ...]:
        outcomes = [self._outcome(*end) for end in ended]
        return tuple(self._storage.settle(self._worker(worker), outcomes))

    def settle_late(self, worker: int, ended: Sequence[End]) -> tuple[bool, ...]:
        outcomes = [self._outcome(*end) for end in ended]
        return tuple(self._storage.settle_late(self._worker(worker), outcomes))

    def interrupt(self, worker: int, job: int, token: int) -> bool:
        outcome = self._outcome(job, token, "requeue")
        return self._storage.settle(self._worker(worker), [outcome])[0]

    def release(self, worker: int, job: int, token: int) -> bool:
        lease = self._id(job), self._queues[0], self._tokens[job, token]
        return self._storage.release(self._worker(worker), [lease])[0]

    def reconcile(self, worker: int, ended: Sequence[End]) -> object:
        took = self.settle(worker, ended) if ended else ()
        held = self._storage.holdings(self._worker(worker), self._queues)
        return took, tuple(sorted((self._job(lease), self._known(lease)) for lease in held))

    def recover_worker(self, worker: int, running: Sequence[tuple[int, int]]) -> object:
        tokens = [self._tokens[pair] for pair in running]
        return self._recovered(
            self._storage.recover_worker(
                self._worker(worker), self._queues, running=tokens, how="orphaned"
            )
        )

    def expire(self, node: int) -> object:
        """By the storage's own clock."""
        assert self._storage.heartbeat(self._node(node), self._queues, EXPIRED_S)
        time.sleep(2 * EXPIRED_S)
        return self._recovered(self._storage.recover(self._queues))

    def outage(self) -> None:
        pass_unserved(self._storage, self._queues, round(2 * LEASE_S * 1000))

    def recover(self) -> object:
        return self._recovered(self._storage.recover(self._queues))

    def heartbeat(self, node: int) -> bool:
        return self._storage.heartbeat(self._node(node), self._queues, LEASE_S)

    def serve(self) -> None:
        """Nothing is done for a lease's time but what is done in each state already."""

    # -- names ---------------------------------------------------------------------------------

    def _id(self, job: int) -> str:
        return f"{self._name}-{job}"

    def _node(self, node: int) -> str:
        return f"{self._name}-node{node}"

    def _worker(self, worker: int) -> str:
        return f"{self._node(worker)}.1"

    def _job(self, lease: Lease) -> int:
        return int(lease.id.rpartition("-")[2])

    def _leased(self, lease: Lease) -> int:
        job = self._job(lease)
        self._leases[job] += 1
        self._marks[job] = split_record(lease.record).marks
        assert lease.token > self._tokens.get((job, self._leases[job] - 1), 0)
        self._tokens[job, self._leases[job]] = lease.token
        return job

    def _known(self, lease: Lease) -> int:
        job = self._job(lease)
        return next(
            n for (of, n), token in self._tokens.items() if (of, token) == (job, lease.token)
        )

    def _outcome(self, job: int, token: int, kind: str) -> Outcome:
        real = self._tokens[job, token]
        answer = done(real) if kind != "requeue" else b""
        marks = self._marks[job]
        if kind == "requeue":
            attempts, interruptions = marks.attempts + 1, marks.interruptions + 1
            marks = replace(marks, attempts=attempts, interruptions=interruptions)
        reason = "lost" if kind == "bury" else ""
        return Outcome(
            self._id(job), self._queues[0], real, kind, answer=answer, marks=marks, reason=reason
        )

    def _recovered(self, rows: Iterable[Any]) -> object:
        return tuple(
            sorted(
                (int(row.id.rpartition("-")[2]), row.how, row.marks.crashes, row.suspect)
                for row in rows
            )
        )

    # -- the end -------------------------------------------------------------------------------

    def _compare(self, state: State) -> None:
        """All that the storage knows is what the model knows; then everything is run to its end."""
        for job in JOBS:
            expected, row = state.jobs[job], self._storage.job(self._id(job), self._queues[0])
            place = "running" if expected.place == "held" else expected.place
            assert (row.state.value if row else "") == place
            if row and row.record and place != "dead":
                marks = split_record(row.record).marks
                counted = marks.attempts, marks.crashes, marks.interruptions
                assert counted == (expected.attempts, expected.crashes, expected.interruptions)
        for worker in {job.worker for job in state.jobs if job.place == "held"}:
            self._storage.recover_worker(
                self._worker(worker), self._queues, running=(), how="released"
            )
        self.register(0)
        left = [job for job in state.jobs if job.place in ("queued", "held")]
        for _ in left:
            last = f"{self._node(0)}.9"
            (lease,) = self._storage.turn(last, (), self._queues, 1, alone=True).leases
            outcome = Outcome(lease.id, lease.queue, lease.token, "ack")
            assert self._storage.settle(last, [outcome]) == [True]
        for node in WORKERS:
            self._storage.retire(self._node(node), self._queues)


def _agree(said: object, move: Move) -> bool:
    if said == move.answer or move.call not in ("settle", "reconcile", "settle_late"):
        return said == move.answer
    # A storage may remember longer what took effect.
    took, expected = said, move.answer
    if move.call == "reconcile":
        (took, held), (expected, holds) = said, move.answer  # type: ignore[misc]
        if held != holds:
            return False
    return all(
        ok == wanted or (ok and _ended_by(move.state, end))
        for ok, wanted, end in zip(took, expected, move.args[1], strict=True)  # type: ignore[call-overload]
    )


def _ended_by(state: State, end: End) -> bool:
    job, token, _ = end
    return state.jobs[job].place == "done" and state.jobs[job].token == token

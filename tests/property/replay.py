"""Ask a real storage to do what a path through the states says, and compare its answers.

Every path has a queue, a node and workers of its own, so that thousands share one storage.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from taskqd.errors import NodeExpired
from taskqd.jobs.job import Entry, Lease, Marks, Outcome, split_record
from taskqd.storage.base import Node, Storage
from tests.property.protocol import JOBS, Move, State
from tests.support.rigs.rig import done, payload

LEASE_S = 600.0
EXPIRED_S = 0.001
_numbers = itertools.count()


class Replay:
    """One path."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        name = f"{os.getpid()}-{next(_numbers)}"
        self._queues = [f"q{name}"]
        self._node = f"n{name}"
        self._tokens: dict[tuple[int, int], int] = {}
        """(job, number of its lease) -> the storage's token."""
        self._leases = dict.fromkeys(JOBS, 0)
        self._crashes = dict.fromkeys(JOBS, 0)
        self.register()

    def run(self, path: Sequence[Move]) -> None:
        for number, move in enumerate(path):
            said = getattr(self, move.call)(*move.args)
            told = f"step {number} of {[(m.call, m.args) for m in path]}"
            assert _agree(said, move), f"{said!r}, expected {move.answer!r}: {told}"
        if path:
            self._compare(path[-1].state)

    # -- calls ---------------------------------------------------------------------------------

    def register(self) -> None:
        self._storage.register(Node(self._node), self._queues, LEASE_S)

    def put(self, job: int) -> bool:
        entry = Entry(self._id(job), self._queues[0], payload(self._id(job)), fresh=False)
        return self._storage.enqueue([entry])[0]

    def lease(self, worker: int, alone: bool) -> tuple[int, ...] | None:
        try:
            turn = self._storage.turn(self._worker(worker), (), self._queues, 1, alone=alone)
        except NodeExpired:
            return None
        return tuple(self._leased(lease) for lease in turn.leases)

    def settle(self, worker: int, ended: Sequence[tuple[int, int]]) -> tuple[bool, ...]:
        outcomes = [self._outcome(*end, "ack") for end in ended]
        return tuple(self._storage.settle(self._worker(worker), outcomes))

    def interrupt(self, worker: int, job: int, token: int) -> bool:
        outcome = self._outcome(job, token, "requeue")
        return self._storage.settle(self._worker(worker), [outcome])[0]

    def release(self, worker: int, job: int, token: int) -> bool:
        lease = self._id(job), self._queues[0], self._tokens[job, token]
        return self._storage.release(self._worker(worker), [lease])[0]

    def reconcile(self, worker: int, ended: Sequence[tuple[int, int]]) -> object:
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

    def expire(self) -> object:
        """By the storage's own clock."""
        assert self._storage.heartbeat(self._node, self._queues, EXPIRED_S)
        time.sleep(2 * EXPIRED_S)
        return self._recovered(self._storage.recover(self._queues))

    # -- names ---------------------------------------------------------------------------------

    def _id(self, job: int) -> str:
        return f"{self._node}-{job}"

    def _worker(self, worker: int) -> str:
        return f"{self._node}.{worker}"

    def _job(self, lease: Lease) -> int:
        return int(lease.id.rpartition("-")[2])

    def _leased(self, lease: Lease) -> int:
        job = self._job(lease)
        self._leases[job] += 1
        self._crashes[job] = split_record(lease.record).marks.crashes
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
        answer = done(real) if kind == "ack" else b""
        marks = Marks(crashes=self._crashes[job])
        return Outcome(self._id(job), self._queues[0], real, kind, answer=answer, marks=marks)

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
            places = {"": "", "queued": "queued", "held": "running", "done": "done"}
            assert (row.state.value if row else "") == places[expected.place]
            if row and row.record:
                assert split_record(row.record).marks.crashes == expected.crashes
        for worker in {job.worker for job in state.jobs if job.place == "held"}:
            self._storage.recover_worker(
                self._worker(worker), self._queues, running=(), how="released"
            )
        self.register()
        left = [job for job in state.jobs if job.place in ("queued", "held")]
        for _ in left:
            (lease,) = self._storage.turn(f"{self._node}.9", (), self._queues, 1, alone=True).leases
            outcome = Outcome(lease.id, lease.queue, lease.token, "ack")
            assert self._storage.settle(f"{self._node}.9", [outcome]) == [True]
        self._storage.retire(self._node, self._queues)


def _agree(said: object, move: Move) -> bool:
    if said == move.answer or move.call not in ("settle", "reconcile"):
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


def _ended_by(state: State, end: tuple[int, int]) -> bool:
    job, token = end
    return state.jobs[job].place == "done" and state.jobs[job].token == token

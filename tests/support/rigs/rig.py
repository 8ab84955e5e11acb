"""A storage with a registered node: short words for what contract tests do all the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskqd.clock import now_ms
from taskqd.jobs.job import Answer, Entry, Lease, Outcome, State, encode_answer
from taskqd.storage.base import Leased, Node, Storage
from tests.support.waiting import wait_until


def payload(job_id: str, priority: int = 0) -> bytes:
    head = f'"p":{priority},' if priority else ""
    return f'{{{head}"v":1,"t":"task","a":["{job_id}"]}}'.encode()


def entry(job_id: str, queue: str = "q", *, priority: int = 0, **fields: Any) -> Entry:
    return Entry(job_id, queue, payload(job_id, priority), priority=priority, **fields)


def done(token: int, state: str = "done", ttl_s: int = 300) -> bytes:
    return encode_answer(Answer(state, token, now_ms(), ttl_s))


def ack(lease: Lease, answer: bytes | None = None, **fields: Any) -> Outcome:
    told = done(lease.token) if answer is None else answer
    return Outcome(lease.id, lease.queue, lease.token, "ack", answer=told, **fields)


def outcome(lease: Lease, kind: str, **fields: Any) -> Outcome:
    return Outcome(lease.id, lease.queue, lease.token, kind, **fields)


def ids(leases: Sequence[Lease] | Leased) -> list[str]:
    return [lease.id for lease in (leases.leases if isinstance(leases, Leased) else leases)]


class Rig:
    """`storage`, one node "n" registered for `queues`, workers "n.1", "n.2", ..."""

    def __init__(
        self, storage: Storage, queues: Sequence[str] = ("q",), *, registered: bool = False
    ) -> None:
        self.storage = storage
        self.queues = list(queues)
        if not registered:
            self.register("n")

    def register(self, node: str, lease_s: float = 600) -> None:
        self.storage.register(Node(node, name=f"{node}@host"), self.queues, lease_s)

    def put(self, *job_ids: str, **fields: Any) -> list[bool]:
        return self.storage.enqueue([entry(job_id, **fields) for job_id in job_ids])

    def lease(self, limit: int = 1, worker: str = "n.1", **options: Any) -> list[Lease]:
        return self.storage.turn(worker, (), self.queues, limit, **options).leases

    def settle(self, *outcomes: Outcome, worker: str = "n.1") -> list[bool]:
        return self.storage.settle(worker, outcomes)

    def end(self, *job_ids: str) -> None:
        """Put jobs, run them and acknowledge them."""
        self.put(*job_ids)
        leases = self.lease(len(job_ids))
        assert self.settle(*map(ack, leases)) == [True] * len(job_ids)

    def order(self, limit: int = 1000) -> list[str]:
        """Return the ids in the order in which they are queued, by leasing and releasing them."""
        leases = self.lease(limit, worker="n.order")
        assert all(
            self.storage.release("n.order", [(job.id, job.queue, job.token) for job in leases])
        )
        return ids(leases)

    def states(self) -> dict[str, str]:
        """Return id -> state of every job that waits, runs or is dead; each is in one place."""
        found: dict[str, str] = {}
        for state in (State.SCHEDULED, State.QUEUED, State.RUNNING, State.DEAD):
            for row in self.storage.jobs(state):
                assert row.id not in found, f"{row.id} is {found[row.id]} and {state}"
                assert row.state is state
                found[row.id] = state.value
        return found

    def promote(self, queued: int) -> None:
        """Promote until so many jobs are queued.

        What one call says that it has promoted is not the measure: after a lost reply it is repeated,
        and the repeat finds nothing left to do.
        """
        wait_until(
            lambda: (self.storage.promote(self.queues), self.counts()[0] >= queued)[1],
            f"{queued} jobs queued",
        )

    def counts(self, queue: str = "q") -> tuple[int, int, int, int]:
        """Return (queued, scheduled, running, dead) of a queue."""
        for row in self.storage.queues():
            if row.name == queue:
                return row.queued, row.scheduled, row.running, row.dead
        return 0, 0, 0, 0

"""Everything that one namespace holds, and the lock that guards it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from taskqd.clock import monotonic_ns, now_ms
from taskqd.jobs.job import Entry
from taskqd.storage.base import Node, Recovered
from taskqd.storage.expiry import Pulse
from taskqd.storage.features import Revocation
from taskqd.storage.memory.state.line import Job, Line
from taskqd.storage.rules import HeldJob, RecoveredJob

TIMERS = "\0timers"
"""Place in `Space.idle` of sleeping schedulers; no queue can have this name."""


class Ringer(Protocol):
    node: str
    """Of the worker whose bell it is, "" of a scheduler's."""

    def ring(self) -> None: ...


class NodeState:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.expires_ms = 0
        self.lease_ms = 0
        self.queues: set[str] = set()


def lease_clock_ms() -> int:
    """Return the time by which leases expire; a jump of the wall clock does not move it."""
    return monotonic_ns() // 1_000_000


class Taken(NamedTuple):
    """What is kept of a lease that was taken from a silent node."""

    worker: str
    token: int
    attempts: int
    """As counted then; more means that the job has started again since."""
    blamed: bool
    """Its crash stands until the node registers again."""
    until_ms: int


class Lock:
    def __init__(self) -> None:
        self.holders: dict[str, tuple[int, int | None]] = {}
        """Owner -> (token, free at by the lease clock; None: with its worker)."""
        self.waiters: dict[tuple[str, str], None] = {}
        """(queue, job id), longest waiting first."""


class Rate:
    def __init__(self) -> None:
        self.starts: list[int] = []
        self.until_ms = 0
        """Of no use after that."""
        self.told: dict[str, int] = {}
        """Who was refused -> the time that it was told."""

    def forget_time_ahead(self, now_ms: int) -> None:
        """Count as now what was counted by a clock that was set back since.

        Otherwise all would wait until the clock is there again.
        """
        if self.starts and max(self.starts) > now_ms:
            self.starts = sorted(min(at, now_ms) for at in self.starts)
            self.told.clear()
            self.until_ms = 0


class OpenGroup:
    def __init__(self, queue: str, total: int, callback: Entry | None, until_ms: int) -> None:
        self.queue = queue
        self.total = total
        self.callback = callback
        self.until_ms = until_ms
        self.answers: dict[int, bytes] = {}


class Space:
    """Plain data, and the moves that several calls share.  Guard every use by `lock`."""

    def __init__(
        self, wall_ms: Callable[[], int] = now_ms, lease_ms: Callable[[], int] = lease_clock_ms
    ) -> None:
        self.lock = threading.RLock()
        self.answered = threading.Condition(self.lock)
        self.wall_ms = wall_ms
        self.lease_ms = lease_ms
        self.epoch = uuid.uuid4().hex
        self.lines: dict[str, Line] = {}
        self.nodes: dict[str, NodeState] = {}
        self.pulse: Pulse | None = None
        self.taken: dict[tuple[str, str], Taken] = {}
        """(queue, job id) -> what was taken last."""
        self.ticks: dict[tuple[str, int], int] = {}
        """(name, Unix ms of the tick) -> kept until."""
        self.effects: dict[str, set[tuple[str, str, int]]] = {}
        """Worker -> its latest outcomes (queue, id, token) that took effect."""
        self.gone: dict[str, int] = {}
        """Worker whose jobs were recovered -> kept until (Unix ms)."""
        self.idle: dict[str, dict[Ringer, None]] = {}
        """Queue, or `TIMERS` -> armed bells, longest idle first."""
        self.token = 0
        self.orders_change = 1
        """Grows with each change to them."""
        self.orders: dict[str, tuple[Revocation, int]] = {}
        """Subject -> its standing order, kept until (Unix ms)."""
        self.locks: dict[str, Lock] = {}
        self.rates: dict[str, Rate] = {}
        self.groups: dict[str, OpenGroup] = {}
        self.schedules: dict[str, bytes] = {}

    def orders_now(self) -> int:
        """Return the number of the last change to the standing orders, 0 where there are none."""
        now = self.wall_ms()
        return self.orders_change if any(end > now for _, end in self.orders.values()) else 0

    def line(self, name: str) -> Line:
        return self.lines.setdefault(name, Line(name))

    def some(self, queues: Iterable[str]) -> list[Line]:
        """Return those of the queues that were ever used."""
        return [self.lines[name] for name in queues if name in self.lines]

    def find(self, job_id: str, queue: str | None) -> tuple[Line, Job] | None:
        names = self.lines if queue is None else (queue,)
        for line in self.some(names):
            job = line.jobs.get(job_id)
            if job is not None:
                return line, job
        return None

    def add(self, entry: Entry) -> bool:
        """Write a job unless its id is known.  Wakes nobody."""
        line = self.line(entry.queue)
        known = line.jobs.get(entry.id)
        if entry.unique and line.unique.get(entry.unique, entry.id) != entry.id:
            return False
        if known is not None:
            if known.id not in line.ended or known.answer_until_ms > self.wall_ms():
                return False
            line.to_nowhere(known)
        job = Job(entry.id, entry.queue, entry.payload, entry.priority)
        if entry.unique:
            job.unique, job.unique_until = entry.unique, entry.unique_until
            line.unique[entry.unique] = entry.id
        self.put(line, job, entry.run_at_ms)
        return True

    def put(self, line: Line, job: Job, run_at_ms: int) -> None:
        """Queue the job at the tail, or later.  Wakes schedulers, not workers."""
        if run_at_ms <= self.wall_ms():
            line.to_tail(job)
        else:
            self.delay(line, job, run_at_ms)

    def delay(self, line: Line, job: Job, run_at_ms: int) -> None:
        """Schedule the job, whatever the time is; wakes schedulers if it is due first."""
        earliest = line.earliest()
        line.to_later(job, run_at_ms)
        if earliest is None or earliest is job or run_at_ms < earliest.at_ms:
            self.ring(TIMERS, len(self.idle.get(TIMERS, ())))

    def ring(self, place: str, count: int) -> None:
        """Wake as many idle ones as there are jobs for."""
        for bell in list(self.idle.get(place, ()))[:count]:
            bell.ring()

    def ring_ready(self, queues: Iterable[str]) -> None:
        """Wake as many idle workers of these queues as there are jobs for."""
        for line in self.some(queues):
            if line.paused:
                continue
            self.ring(line.name, line.ready() + len(line.suspects))
            for label, letters in line.parked.items():
                self._ring_knowers(line, label, len(letters))

    def _ring_knowers(self, line: Line, label: str, count: int) -> None:
        nodes = line.knowers.get(label, ())
        for bell in [bell for bell in self.idle.get(line.name, ()) if bell.node in nodes][:count]:
            bell.ring()

    def park(self, line: Line, job: Job, label: str, node: str) -> None:
        """Have a dead letter wait under a label that its node does not know; wakes schedulers."""
        is_first = label not in line.parked
        line.park(job, label)
        line.knowers.get(label, set()).discard(node)
        if is_first:
            self.ring(TIMERS, len(self.idle.get(TIMERS, ())))

    def stop(self, line: Line, job: Job) -> None:
        """End a job that was asked to stop, as cancelled."""
        assert job.stop is not None
        now = self.wall_ms()
        job.answer, ttl_s = job.stop
        job.answer_until_ms = now + ttl_s * 1000
        line.to_ended(job, now)
        self.answered.notify_all()

    def apply(self, line: Line, taken: Sequence[RecoveredJob]) -> list[Recovered]:
        """Put one worker's jobs back to the head, the first of them first."""
        recovered = []
        for item in reversed(taken):
            job = line.jobs[item.held.id]
            if job.stop is not None:
                self.stop(line, job)
                continue
            facts = Recovered(job.id, line.name, job.worker, item.how, item.marks, item.suspect)
            recovered.append(facts)
            job.record, job.suspect = item.record, item.suspect
            line.to_head(job)
        self.ring(line.name, len(taken))
        return recovered[::-1]


def held_job(job: Job) -> HeldJob:
    return HeldJob(job.id, job.token, job.suspect, job.record)

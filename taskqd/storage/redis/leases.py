"""Between a lease and its end, on Redis: turns, releases, holdings, bells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from msgspec.json import encode

from taskqd.errors import NodeExpired
from taskqd.jobs.job import NO_MARKS, Lease, Outcome
from taskqd.storage.base import Leased
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.keyspace.bell import RedisBell, TimerBell
from taskqd.storage.rules import (
    node_of,
    refusal_of_recovered,
    refusal_of_unregistered,
)

BATCH = 1000
"""Jobs and outcomes in one call of a script, bounded by Lua's stack."""
LATE_BATCH = 100
"""Late ends in one call: each looks for who may have the job now."""
_KINDS = ("retry", "requeue", "bury", "cancel")


class LeaseCalls(Base):
    """The contract's calls of workers."""

    @cached_property
    def _bells(self) -> dict[str, RedisBell]:
        """Worker -> its bell."""
        return {}

    def lease(
        self, worker: str, queues: Sequence[str], limit: int, *, alone: bool = False
    ) -> Leased:
        return self.turn(worker, (), queues, limit, alone=alone)

    def settle(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        return self.turn(worker, outcomes, (), 0).settled

    def turn(
        self,
        worker: str,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        limit: int,
        *,
        alone: bool = False,
        idle: bool = False,
        share: int = 1,
    ) -> Leased:
        node = node_of(worker)
        bell = self._bell_of(worker) if idle and limit > 0 else None
        if bell is not None:
            bell.listen()
        turn = _Turn(outcomes)
        for queue in queues:
            while (left := turn.next_limit(queue, limit, share)) is not None:
                flags = ("a" if alone and not turn.leases else "") + ("i" if bell else "")
                flags += turn.goes_on(queue)
                mine = turn.next_of(queue)
                args = [worker, node, left, flags, share, *_arguments(mine)]
                reply = self.run("turn", queue, args)
                if reply[0] < 0:
                    raise NodeExpired(_refusal(reply[0], worker, queue))
                turn.add(queue, mine, reply)
                self._joined.add((worker, queue))
                if bell is not None:
                    bell.note(queue, reply[5])
        for queue, flags, mine in turn.rest():
            args = [worker, node, -1, flags, 1, *_arguments(mine)]
            turn.settle(mine, self.run("turn", queue, args)[1])
        return turn.result()

    def settle_late(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        verdicts: dict[int, bool] = {}
        for queue in dict.fromkeys(outcome.queue for outcome in outcomes):
            mine = [index for index, outcome in enumerate(outcomes) if outcome.queue == queue]
            for at in range(0, len(mine), LATE_BATCH):
                some = mine[at : at + LATE_BATCH]
                args: list[Any] = [worker, node_of(worker)]
                for index in some:
                    args += _late(outcomes[index])
                said = self.run("settle_late", queue, args)
                verdicts |= zip(some, map(_is_one, said), strict=True)
        return [verdicts[index] for index in range(len(outcomes))]

    def release(self, worker: str, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        queues = list(dict.fromkeys(queue for _, queue, _ in leases))
        result: dict[tuple[str, str, int], bool] = {}
        for queue in queues:
            mine = sorted((lease for lease in leases if lease[1] == queue), key=lambda job: job[2])
            # The last first: each chunk goes to the head, before what the one before it put there.
            for end in range(len(mine), 0, -BATCH):
                chunk = mine[max(0, end - BATCH) : end]
                args: list[Any] = [worker, "" if end == len(mine) else "m"]
                for job_id, _, token in chunk:
                    args += (job_id, token)
                verdicts = self.run("release", queue, args)
                result |= zip(chunk, map(_is_one, verdicts), strict=True)
        return [result[lease] for lease in leases]

    def holdings(self, worker: str, queues: Sequence[str]) -> list[Lease]:
        """As the contract says.  The worker's bell is disarmed: what it had to give is listed."""
        bell = self._bell_of(worker)
        if bell is not None:
            bell.reset()
        # law: an answer first.  A server that was silent still has what was sent over connections
        # that were given up; once it has answered here, it has done all of that
        # (test_holdings_are_asked_for_after_an_answer).
        for server in self.by_server(queues):
            server.call("PING")
        replies = self.run_each("holdings", queues, [worker])
        leases = [
            Lease(job_id.decode(), queue, int(held.rstrip(b"s")), record, held.endswith(b"s"))
            for queue, reply in zip(queues, replies, strict=True)
            for job_id, held, record in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
        ]
        return sorted(leases, key=lambda lease: lease.token)

    def bell(self, worker: str, queues: Sequence[str]) -> RedisBell:
        old = self._bell_of(worker)
        if old is not None:
            old.close()
        self._bells[worker] = bell = RedisBell(self, worker, queues)
        return bell

    def _bell_of(self, worker: str) -> RedisBell | None:
        bell = self._bells.get(worker)
        return None if bell is None or bell.is_closed else bell

    def timer_bell(self, queues: Sequence[str]) -> TimerBell:
        return TimerBell(self, queues)


class _Turn:
    """A turn over several queues, as it comes in."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._todo: dict[str, list[tuple[int, Outcome]]] = {}
        for index, outcome in enumerate(outcomes):
            self._todo.setdefault(outcome.queue, []).append((index, outcome))
        self._swept: set[str] = set()
        """Queues whose latest call leased nothing, but dropped stale entries."""
        self._begun: set[str] = set()
        """Queues of which outcomes were sent."""
        self._settled = [False] * len(outcomes)
        self._ready: dict[str, int] = {}
        self._suspects: dict[str, int] = {}
        self._stops: dict[str, None] = {}
        self._orders = 0
        self._last_leased: dict[str, int] = {}
        """Queue -> jobs that its latest call leased."""
        self.leases: list[Lease] = []

    def next_limit(self, queue: str, limit: int, share: int) -> int | None:
        """Return how many jobs the next call for a queue may lease; None: it had its last.

        With limit 0 there is one call, for the queue's counts.  A call that leased a full batch is
        followed by another; of a share, there is only one.  One that only dropped stale entries is
        followed by another, too.
        """
        last = self._last_leased.get(queue)
        if limit <= 0:
            return 0 if last is None else None
        if last is not None and queue not in self._swept and (share != 1 or last < BATCH):
            return None
        left = min(limit - len(self.leases), BATCH)
        return left if left > 0 and not self._is_alone() else None

    def _is_alone(self) -> bool:
        return bool(self.leases and self.leases[-1].alone)

    def next_of(self, queue: str) -> list[tuple[int, Outcome]]:
        """Return outcomes of `queue` for one call, which is the queue's last or leases nothing."""
        todo = self._todo.get(queue, [])
        mine, self._todo[queue] = todo[:BATCH], todo[BATCH:]
        if mine:
            self._begun.add(queue)
        return mine

    def goes_on(self, queue: str) -> str:
        """Return the flag that says that outcomes of `queue` were sent in this turn before."""
        return "m" if queue in self._begun else ""

    def rest(self) -> Iterator[tuple[str, str, list[tuple[int, Outcome]]]]:
        """Iterate over (queue, flags, outcomes) that no lease has carried."""
        for queue in list(self._todo):
            while self._todo[queue]:
                flags = self.goes_on(queue)
                yield queue, flags, self.next_of(queue)

    def add(self, queue: str, mine: list[tuple[int, Outcome]], reply: list[Any]) -> None:
        swept, verdicts, ready, suspects, first, _, alone, said, *jobs = reply
        (self._swept.add if swept else self._swept.discard)(queue)
        if said:
            self._orders = max(self._orders, int(said[0]))
            self._stops |= dict.fromkeys(job_id.decode() for job_id in said[1:])
        self._ready[queue] = ready
        self._suspects[queue] = suspects
        self._last_leased[queue] = len(jobs) // 2
        lone = bool(alone)
        self.leases += [
            Lease(job_id.decode(), queue, token, record, lone)
            for token, (job_id, record) in enumerate(
                zip(jobs[::2], jobs[1::2], strict=True), int(first)
            )
        ]
        self.settle(mine, verdicts)

    def settle(self, mine: list[tuple[int, Outcome]], verdicts: bytes) -> None:
        if not verdicts:
            for index, _ in mine:
                self._settled[index] = True
            return
        acks_first = sorted(mine, key=_is_no_ack)
        for (index, _), verdict in zip(acks_first, verdicts, strict=True):
            self._settled[index] = _is_one(verdict)

    def result(self) -> Leased:
        ready, suspects = sum(self._ready.values()), sum(self._suspects.values())
        stops = tuple(self._stops)
        return Leased(self._settled, self.leases, ready, suspects, stops, self._orders)


def _arguments(mine: Sequence[tuple[int, Outcome]]) -> list[Any]:
    """Return outcomes as turn.lua takes them: acks first."""
    acks: list[Any] = [0]
    others: list[Any] = [0]
    for _, outcome in mine:
        if outcome.kind == "ack":
            acks += (outcome.id, outcome.token, outcome.answer_ttl_s, outcome.answer)
            acks[0] += 1
        else:
            others += _other(outcome)
            others[0] += 1
    return acks + others


def _other(outcome: Outcome) -> tuple[Any, ...]:
    if outcome.kind not in _KINDS:
        raise ValueError(f"outcome of job {outcome.id!r}: unknown kind {outcome.kind!r}")
    return (
        outcome.id,
        outcome.token,
        outcome.kind,
        outcome.answer,
        outcome.answer_ttl_s,
        outcome.delay_ms,
        b"" if outcome.marks == NO_MARKS else encode(outcome.marks),
        outcome.reason,
        outcome.parked,
    )


def _late(outcome: Outcome) -> tuple[Any, ...]:
    """Return an outcome as settle_late.lua takes it."""
    return (
        outcome.id,
        outcome.token,
        outcome.kind,
        outcome.answer,
        outcome.answer_ttl_s,
        b"" if outcome.marks == NO_MARKS else encode(outcome.marks),
        outcome.reason,
    )


def _is_no_ack(item: tuple[int, Outcome]) -> bool:
    return item[1].kind != "ack"


def _is_one(byte: int) -> bool:
    return byte == ord("1")


def _refusal(status: int, worker: str, queue: str) -> str:
    if status == -2:
        return refusal_of_recovered(worker)
    return refusal_of_unregistered(worker, [queue])

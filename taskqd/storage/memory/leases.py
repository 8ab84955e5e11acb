"""Between a lease and its end, in memory: turns, releases, holdings, bells."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.errors import NodeExpired
from taskqd.jobs.job import Lease, Outcome, State
from taskqd.storage.base import Bell, Leased
from taskqd.storage.expiry import counts_late
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.bell import MemoryBell
from taskqd.storage.memory.state.line import Job, Line
from taskqd.storage.memory.state.space import TIMERS
from taskqd.storage.rules import (
    grant,
    heads_last,
    key_of,
    marks_of,
    node_of,
    place,
    refusal_of_recovered,
    refusal_of_unregistered,
    release_key,
    rewrite,
)


class LeaseCalls(Base):
    """The contract's calls of workers."""

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
        space = self._space
        with space.lock:
            if limit > 0:
                self._check_node(worker, queues)
            settled = self._settle(worker, outcomes)
            lines = [line for line in space.some(queues) if not line.paused]
            leases: list[Lease] = []
            for line in lines:
                leases += self._lease(
                    worker, line, limit - len(leases), alone and not leases, share
                )
                if leases and leases[-1].alone:
                    break
            self._space.ring_ready({*queues, *(outcome.queue for outcome in outcomes)})
            return Leased(
                settled,
                leases,
                sum(line.ready() for line in lines),
                sum(len(line.suspects) for line in lines),
                tuple(self._stops(worker)),
                space.orders_now(),
            )

    def settle_late(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        with self._space.lock:
            return [self._end_late(worker, outcome) for outcome in outcomes]

    def _end_late(self, worker: str, outcome: Outcome) -> bool:
        space = self._space
        taken = space.taken.get((outcome.queue, outcome.id))
        line = space.lines.get(outcome.queue)
        job = line.jobs.get(outcome.id) if line else None
        if line is None or job is None or taken is None:
            return False
        if (taken.worker, taken.token) != (worker, outcome.token):
            return False
        if job.id in line.ended:
            return job.answer == outcome.answer
        if not counts_late(taken.attempts, marks_of(job.record), job.state, job.reason):
            return False
        self._end_lease(line, job, outcome)
        space.answered.notify_all()
        return True

    def release(self, worker: str, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        space = self._space
        with space.lock:
            held = [self._held(worker, job_id, queue, token) for job_id, queue, token in leases]
            known = space.effects.get(worker, ())
            result = [
                found is not None or release_key(job_id, queue, token) in known
                for found, (job_id, queue, token) in zip(held, leases, strict=True)
            ]
            effects = {release_key(job.id, job.queue, job.token) for job in held if job is not None}
            for job in sorted(
                (job for job in held if job is not None), key=_by_token, reverse=True
            ):
                if job.stop is not None:
                    space.stop(space.line(job.queue), job)
                else:
                    space.line(job.queue).to_head(job)
            self._remember(worker, effects)
            self._space.ring_ready({queue for _, queue, _ in leases})
            return result

    def holdings(self, worker: str, queues: Sequence[str]) -> list[Lease]:
        with self._space.lock:
            jobs = [job for line in self._space.some(queues) for job in line.holding(worker)]
            return [_lease_of(job) for job in sorted(jobs, key=_by_token)]

    def bell(self, worker: str, queues: Sequence[str]) -> Bell:
        return MemoryBell(self._space, tuple(queues), node_of(worker))

    def timer_bell(self, queues: Sequence[str]) -> Bell:
        return MemoryBell(self._space, (TIMERS,))

    def _stops(self, worker: str) -> list[str]:
        lines = self._space.lines.values()
        return [j.id for line in lines for j in line.holding(worker) if j.stop is not None]

    def _check_node(self, worker: str, queues: Sequence[str]) -> None:
        if worker in self._space.gone:
            raise NodeExpired(refusal_of_recovered(worker))
        node = self._space.nodes.get(node_of(worker))
        missing = [name for name in queues if node is None or name not in node.queues]
        if missing:
            raise NodeExpired(refusal_of_unregistered(worker, missing))

    def _settle(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        known = self._space.effects.get(worker, set())
        effects: set[tuple[str, str, int]] = set()
        for outcome in heads_last(outcomes):
            job = self._held(worker, outcome.id, outcome.queue, outcome.token)
            if job is not None:
                self._end_lease(self._space.lines[outcome.queue], job, outcome)
                effects.add(key_of(outcome))
        self._remember(worker, effects)
        if effects:
            self._space.answered.notify_all()
        return [key_of(one) in effects or key_of(one) in known for one in outcomes]

    def _end_lease(self, line: Line, job: Job, outcome: Outcome) -> None:
        now = self._space.wall_ms()
        where = place(outcome, called=job.called)
        again = where in ("head", "tail", "later")
        if again and job.stop is not None:
            self._space.stop(line, job)
            return
        if where != "ended":
            job.record = rewrite(job.record, outcome.marks)
        if again:
            job.suspect = False
        else:
            job.answer, job.answer_until_ms = outcome.answer, now + outcome.answer_ttl_s * 1000
        if where == "head":
            line.to_head(job)
        elif where == "tail":
            line.to_tail(job)
        elif where == "later":
            self._space.delay(line, job, now + outcome.delay_ms)
        elif where == "dead":
            node = node_of(job.worker)
            line.to_dead(job, outcome.reason, now)
            if outcome.parked:
                self._space.park(line, job, outcome.parked, node)
        else:
            line.to_ended(job, now)

    def _lease(self, worker: str, line: Line, limit: int, alone: bool, share: int) -> list[Lease]:
        if limit <= 0:
            return []
        if alone and line.suspects:
            suspect = next(iter(line.suspects.values()))
            return [self._lease_one(worker, line, suspect)]
        letters = line.letters_for(node_of(worker))
        letters = letters[: grant(limit, len(letters), share)]
        top = line.first().priority if line.ready() else 0
        first = [job for job in letters if job.priority >= top]
        leases = [self._lease_one(worker, line, job) for job in first]
        count = min(grant(limit, line.ready(), share), line.ready(), limit - len(leases))
        leases += [self._lease_one(worker, line, line.first()) for _ in range(count)]
        last = [job for job in letters if job.priority < top][: limit - len(leases)]
        return leases + [self._lease_one(worker, line, job) for job in last]

    def _lease_one(self, worker: str, line: Line, job: Job) -> Lease:
        self._space.token += 1
        if job.state is State.DEAD:
            job.answer, job.reason = b"", ""
        line.to_worker(job, worker, self._space.token)
        return _lease_of(job)

    def _held(self, worker: str, job_id: str, queue: str, token: int) -> Job | None:
        line = self._space.lines.get(queue)
        job = line.held.get(worker, {}).get(job_id) if line else None
        return job if job is not None and job.token == token else None

    def _remember(self, worker: str, effects: set[tuple[str, str, int]]) -> None:
        if effects:
            self._space.effects[worker] = effects


def _by_token(job: Job) -> int:
    return job.token


def _lease_of(job: Job) -> Lease:
    return Lease(job.id, job.queue, job.token, job.record, alone=job.suspect)

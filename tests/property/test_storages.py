"""Any history of calls leaves each storage in the state that a simple model predicts."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskqd.clock import now_ms
from taskqd.errors import NodeExpired
from taskqd.job import Entry, Lease, Marks, Outcome, State
from taskqd.storage.base import Node
from tests.property.model import Model, ModelJob
from tests.support.rig import done, payload, until
from tests.support.storages import Backend

EXAMPLES, STEPS = 100, 40
QUEUES = ["q", "r"]
NODES = ["m", "n"]
FAR_MS = 3_600_000

job_ids = st.sampled_from([f"j{number}" for number in range(12)])
queues = st.sampled_from(QUEUES)
workers = st.sampled_from(["m.1", "m.2", "n.1"])
subset = st.integers(min_value=0, max_value=2**16 - 1)
"""Which of some things: bit i stands for the i-th."""
marks = st.builds(Marks, attempts=st.integers(0, 3), error=st.sampled_from(["", "E: no"]))
kinds = st.sampled_from(["ack", "retry", "requeue", "bury", "cancel"])
delays = st.sampled_from([0, 0, 1, FAR_MS])


class StorageMachine(RuleBasedStateMachine):
    backend: Backend
    steps = 0

    @initialize()
    def open(self) -> None:
        self.storage = self.backend.open(self.backend.namespace())
        self.model = Model(QUEUES)
        self.old: list[Lease] = []
        """Leases that ended: their tokens must have no power."""
        self.latest: dict[str, list[Outcome]] = {}
        self.tokens: dict[tuple[str, str], int] = {}
        for node in NODES:
            self.register(node)

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.drain()
            self.storage.close()

    # -- producers -----------------------------------------------------------------------------

    @rule(
        names=st.lists(st.tuples(job_ids, queues, st.integers(0, 2)), max_size=4),
        later=st.booleans(),
    )
    def enqueue(self, names: list[tuple[str, str, int]], later: bool) -> None:
        run_at_ms = now_ms() + FAR_MS if later else 0
        entries = [
            Entry(job_id, queue, payload(job_id, priority), run_at_ms, priority, fresh=False)
            for job_id, queue, priority in names
        ]
        assert self.storage.enqueue(entries) == [self._enqueue(entry) for entry in entries]

    def _enqueue(self, entry: Entry) -> bool:
        job = ModelJob(entry.id, entry.queue, entry.payload, entry.priority)
        return self.model.enqueue(job, later=entry.run_at_ms > 0)

    @rule(tick=st.sampled_from(["t@1000", "t@2000", "u@1000"]), job_id=job_ids, queue=queues)
    def fire(self, tick: str, job_id: str, queue: str) -> None:
        entry = Entry(job_id, queue, payload(job_id), fresh=False)
        assert self.storage.fire(tick, [entry]) is (tick not in self.model.ticks)
        if tick not in self.model.ticks:
            self.model.ticks.add(tick)
            self._enqueue(entry)

    # -- workers -------------------------------------------------------------------------------

    @rule(
        worker=workers,
        order=st.permutations(QUEUES),
        limit=st.integers(0, 5),
        alone=st.booleans(),
        ends=st.lists(st.tuples(kinds, delays, marks, st.booleans()), max_size=3),
        stale=subset,
    )
    def turn(self, worker, order, limit, alone, ends, stale) -> None:
        outcomes = self._outcomes(worker, ends) + self._stale(stale)
        if limit and worker[0] not in self.model.served:
            with pytest.raises(NodeExpired):
                self.storage.turn(worker, outcomes, order, limit, alone=alone)
            return
        turn = self.storage.turn(worker, outcomes, order, limit, alone=alone)
        expected = self.model.settle(worker, outcomes)
        assert turn.settled == expected
        if any(expected):
            self.latest[worker] = [
                end for end, took in zip(outcomes, expected, strict=True) if took
            ]
        got = self.model.lease(worker, order, limit, alone=alone) if limit else []
        self._leased(turn.leases, got)

    def _outcomes(self, worker: str, ends: list[tuple[str, int, Marks, bool]]) -> list[Outcome]:
        held = self.model.holds(worker)
        self.old += [_lease(job) for job, _ in zip(held, ends, strict=False)]
        return [
            Outcome(
                job.id,
                job.queue,
                job.token,
                kind,
                answer=done(job.token, "dead" if kind == "bury" else "done") if told else b"",
                delay_ms=delay_ms,
                marks=after,
                reason="failed",
            )
            for job, (kind, delay_ms, after, told) in zip(held, ends, strict=False)
        ]

    def _stale(self, chosen: int) -> list[Outcome]:
        """Return outcomes for leases that ended long ago (not in the latest turn of a worker)."""
        latest = {(end.id, end.token) for ends in self.latest.values() for end in ends}
        held = {(job.id, job.token) for job in self.model.jobs.values() if job.place == "held"}
        old = [lease for lease in self.old if (lease.id, lease.token) not in latest | held]
        return [
            Outcome(lease.id, lease.queue, lease.token, "ack", answer=done(lease.token))
            for lease in _some(old[-3:], chosen)
        ]

    def _leased(self, leases: list[Lease], expected: list[ModelJob]) -> None:
        assert [(lease.id, lease.queue) for lease in leases] == [
            (job.id, job.queue) for job in expected
        ]
        for lease, job in zip(leases, expected, strict=True):
            assert lease.record == job.record
            assert lease.alone == job.suspect
            assert lease.token > self.tokens.get((job.queue, job.id), 0)
            self.tokens[job.queue, job.id] = job.token = lease.token

    @rule(worker=workers)
    def repeat_the_latest_outcomes(self, worker: str) -> None:
        latest = self.latest.get(worker, [])
        assert self.storage.settle(worker, latest) == [True] * len(latest)

    @rule(worker=workers, chosen=subset)
    def release(self, worker: str, chosen: int) -> None:
        jobs = _some(self.model.holds(worker), chosen)
        leases = [(job.id, job.queue, job.token) for job in jobs]
        self.old += [_lease(job) for job in jobs]
        assert self.storage.release(worker, leases) == [True] * len(leases)
        if jobs:
            self.latest.pop(worker, None)
        self.model.release(worker, jobs)

    # -- nodes and recovery --------------------------------------------------------------------

    @rule(node=st.sampled_from(NODES))
    def register(self, node: str) -> None:
        self.storage.register(Node(node), QUEUES, 600)
        self.model.served.add(node)

    @rule(node=st.sampled_from(NODES))
    def heartbeat(self, node: str) -> None:
        assert self.storage.heartbeat(node, QUEUES, 600) is (node in self.model.served)

    @rule(
        worker=workers, chosen=subset, how=st.sampled_from(["orphaned", "interrupted", "released"])
    )
    def recover_worker(self, worker: str, chosen: int, how: str) -> None:
        running = [job.token for job in _some(self.model.holds(worker), chosen)]
        self._forget(worker)
        rows = self.storage.recover_worker(worker, QUEUES, running=running, how=how)
        expected = self.model.recover(worker, set(running), how)
        assert {(row.queue, row.id): (row.how, row.marks, row.suspect) for row in rows} == expected
        assert {row.worker for row in rows} <= {worker}

    @rule(node=st.sampled_from(NODES), clean=st.booleans())
    def lose_a_node(self, node: str, clean: bool) -> None:
        mine = [name for name in ("m.1", "m.2", "n.1") if name[0] == node]
        for worker in mine:
            self._forget(worker)
        how = "released" if clean else "orphaned"
        if clean:
            self.storage.retire(node, QUEUES)
        else:
            rows = self.storage.recover_node(node, QUEUES)
        expected = {}
        for worker in mine:
            expected |= self._expected_of(worker, how)
        if not clean:
            assert {
                (row.queue, row.id): (row.how, row.marks, row.suspect) for row in rows
            } == expected
        self.model.served.discard(node)

    def _expected_of(self, worker: str, how: str):
        return self.model.recover(worker, None, how)

    def _forget(self, worker: str) -> None:
        self.old += [_lease(job) for job in self.model.holds(worker)]
        self.latest.pop(worker, None)

    @rule()
    def recover_finds_nobody_expired(self) -> None:
        assert self.storage.recover(QUEUES) == []

    # -- time and control ----------------------------------------------------------------------

    @rule()
    def promote(self) -> None:
        left = sum(len(queue.soon) for queue in self.model.queues.values())

        def all_promoted() -> bool:
            nonlocal left
            left -= self.storage.promote(QUEUES).promoted
            return left <= 0

        until(all_promoted, "promotion")
        assert left == 0
        self.model.promote()

    @rule(job_id=job_ids, queue=queues, told=st.booleans())
    def cancel(self, job_id: str, queue: str, told: bool) -> None:
        job = self.model.jobs.get((queue, job_id))
        answer = done(0, "cancelled") if told else b""
        assert self.storage.cancel(job_id, queue, answer, 300) is self.model.is_waiting(job)
        if job is not None and self.model.is_waiting(job):
            self.model.finish(job, answer)

    @rule(job_id=job_ids, queue=queues)
    def reschedule(self, job_id: str, queue: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        at = now_ms() + FAR_MS
        assert self.storage.reschedule(job_id, queue, at) is self.model.is_waiting(job)
        if job is not None and self.model.is_waiting(job):
            self.model.delay(job)

    @rule(job_id=job_ids, queue=queues)
    def hurry(self, job_id: str, queue: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        if job is None or job.place == "later":
            assert self.storage.reschedule(job_id, queue, 0) is (job is not None)
            if job is not None:
                self.model.hurry(job)

    @rule(names=st.lists(job_ids, max_size=4, unique=True))
    def revive(self, names: list[str]) -> None:
        dead = [job for job in self.model.jobs.values() if job.place == "dead" and job.id in names]
        # Their order at the tail follows the order asked.
        dead.sort(key=lambda job: names.index(job.id))
        assert self.storage.revive(names) == len(dead)
        for job in dead:
            job.record, job.answer = payload(job.id, job.priority), b""
            self.model.hurry(job)

    @rule(names=st.none() | st.lists(job_ids, max_size=4, unique=True))
    def purge_dead(self, names: list[str] | None) -> None:
        dead = [
            job
            for job in self.model.jobs.values()
            if job.place == "dead" and (names is None or job.id in names)
        ]
        assert self.storage.purge_dead(names) == len(dead)
        for job in dead:
            self.model.finish(job, job.answer)

    @rule(queue=queues)
    def purge_queue(self, queue: str) -> None:
        assert self.storage.purge_queue(queue) == self.model.purge_queue(queue)

    @rule(queue=queues, paused=st.booleans())
    def pause_or_resume(self, queue: str, paused: bool) -> None:
        (self.storage.pause if paused else self.storage.resume)(queue)
        self.model.queues[queue].paused = paused

    @rule()
    def purge(self) -> None:
        assert self.storage.purge(QUEUES, dead_ttl_s=86400, dead_max=100) == 0

    # -- what holds after each step ------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "storage"))
    def each_job_is_in_the_one_place_predicted(self) -> None:
        type(self).steps += 1
        expected = self.model.states()
        found: dict[tuple[str, str], str] = {}
        for state in (State.SCHEDULED, State.QUEUED, State.RUNNING, State.DEAD):
            for row in self.storage.jobs(state):
                key = (row.queue, row.id)
                assert key not in found, f"{key} is {found[key]} and {state}"
                found[key] = state.value
                job = self.model.jobs[key]
                assert (row.record, row.worker) == (job.record, job.worker)
        assert found == expected
        self._counters_are_right(expected)

    def _counters_are_right(self, expected: dict[tuple[str, str], str]) -> None:
        rows = {row.name: row for row in self.storage.queues()}
        for name in QUEUES:
            states = [state for (queue, _), state in expected.items() if queue == name]
            counts = tuple(
                states.count(state) for state in ("queued", "scheduled", "running", "dead")
            )
            row = rows.get(name)
            paused = self.model.queues[name].paused
            assert (row[1:] if row else (0, 0, 0, 0, False)) == (*counts, paused)

    @invariant()
    @precondition(lambda self: hasattr(self, "storage"))
    def answers_and_holdings_are_those_predicted(self) -> None:
        keys = list(self.model.jobs)
        assert self.storage.answers([(job_id, queue) for queue, job_id in keys]) == [
            self.model.jobs[key].answer or None for key in keys
        ]
        for worker in ("m.1", "m.2", "n.1"):
            held = {(one.queue, one.id): one.token for one in self.storage.holdings(worker, QUEUES)}
            assert held == {(job.queue, job.id): job.token for job in self.model.holds(worker)}

    def drain(self) -> None:
        """Run everything to its end: all comes in the order predicted, and nothing is left."""
        for worker in ("m.1", "m.2", "n.1"):
            self.recover_worker(worker, 0, "released")
        for node in NODES:
            self.register(node)
        for queue in QUEUES:
            self.pause_or_resume(queue, paused=False)
        self.promote()
        for job in [job for job in self.model.jobs.values() if job.place == "later"]:
            self.hurry(job.id, job.queue)
        self.revive([job.id for job in self.model.jobs.values() if job.place == "dead"][:1])
        while any(state == "queued" for state in self.model.states().values()):
            self.turn("n.1", QUEUES, 3, True, [("ack", 0, Marks(), False)] * 3, 0)
        self.turn("n.1", QUEUES, 0, False, [("ack", 0, Marks(), True)] * 3, 0)
        self.purge_dead(None)
        assert self.model.states() == {}
        self.storage.purge(QUEUES, dead_ttl_s=86400, dead_max=100)
        assert list(self.storage.leftovers()) == []


def _lease(job: ModelJob) -> Lease:
    return Lease(job.id, job.queue, job.token, job.record)


def _some(things: list, chosen: int) -> list:
    return [thing for number, thing in enumerate(things) if chosen >> number & 1]


def test_a_storage_does_what_the_model_does(backend: Backend) -> None:
    class Machine(StorageMachine):
        pass

    Machine.backend = backend
    Machine.steps = 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.steps >= 2000

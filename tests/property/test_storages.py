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
from taskqd.jobs.job import Entry, Lease, Marks, Outcome, State
from taskqd.jobs.states import JobEvent
from taskqd.storage.base import Node
from taskqd.storage.features import LeaseKey
from tests.property.model import Model, ModelJob
from tests.support.rigs.rig import done, payload
from tests.support.servers.storages import Backend
from tests.support.waiting import wait_until

EXAMPLES, STEPS, STEPS_MIN = 45, 50, 2000
QUEUES = ["q", "r"]
NODES = ["m", "n"]
FAR_MS = 3_600_000

job_ids = st.sampled_from([f"j{number}" for number in range(8)])
queues = st.sampled_from(QUEUES)
WORKERS = ["m.1", "m.2", "n.1"]
workers = st.sampled_from(WORKERS)
subset = st.integers(min_value=0, max_value=2**16 - 1)
"""Which of some things: bit i stands for the i-th."""
marks = st.builds(Marks, attempts=st.integers(0, 3), error=st.sampled_from(["", "E: no"]))
kinds = st.sampled_from(["ack", "retry", "requeue", "bury", "cancel"])
delays = st.sampled_from([0, 0, 1, FAR_MS])
ends = st.tuples(kinds, delays, marks, st.booleans())
picks = st.integers(min_value=0, max_value=11)
"""Which of some things, by number."""
KEYS = ["k", "s"]
uniques = st.sampled_from(["", "", "", *KEYS])
"""Unique keys; "s" is held wait_until its job starts."""

controls = st.sampled_from(
    "cancel reschedule hurry revive purge_dead pause resume resume fire register heartbeat "
    "purge_queue purge recover_finds_nobody_expired".split()
)


class StorageMachine(RuleBasedStateMachine):
    backend: Backend
    steps = 0

    @initialize()
    def open(self) -> None:
        self.storage = self.backend.open(self.backend.namespace())
        self.model = Model(QUEUES)
        self.old: list[Lease] = []
        """Leases that were taken or given back: their tokens must have no power."""
        self.latest: dict[str, list[Outcome]] = {}
        self.now_called = {name: name for name in WORKERS}
        """A worker that was taken back is gone, and the next in its place has another id."""
        self.tokens: dict[tuple[str, str], int] = {}
        for node in NODES:
            self.register(node)
        names = [(f"j{number}", QUEUES[number % 2], number % 3, "") for number in range(4)]
        self.enqueue(names, False)

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.drain()
            self.storage.close()

    # -- producers -----------------------------------------------------------------------------

    @rule(
        names=st.lists(st.tuples(job_ids, queues, st.integers(0, 2), uniques), max_size=4),
        later=st.booleans(),
    )
    def enqueue(self, names: list[tuple[str, str, int, str]], later: bool) -> None:
        run_at_ms = now_ms() + FAR_MS if later else 0
        entries = [
            Entry(
                job_id,
                queue,
                payload(job_id, priority),
                run_at_ms,
                priority,
                fresh=False,
                unique=key,
                unique_until="start" if key == "s" else "done",
            )
            for job_id, queue, priority, key in names
        ]
        assert self.storage.enqueue(entries) == [self._enqueue(entry) for entry in entries]

    def _enqueue(self, entry: Entry) -> bool:
        job = ModelJob(entry.id, entry.queue, entry.payload, entry.priority)
        job.unique, job.until_start = entry.unique, entry.unique_until == "start"
        return self.model.enqueue(job, later=entry.run_at_ms > 0)

    def fire(self, tick: str, job_id: str, queue: str) -> None:
        entry = Entry(job_id, queue, payload(job_id), fresh=False)
        assert bool(self.storage.fire(tick, [entry])) is (tick not in self.model.ticks)
        if tick not in self.model.ticks:
            self.model.ticks.add(tick)
            self._enqueue(entry)

    # -- workers -------------------------------------------------------------------------------

    @rule(
        worker=workers,
        order=st.permutations(QUEUES),
        limit=st.integers(0, 5),
        alone=st.booleans(),
        ends=st.lists(ends, max_size=3),
        stale=subset,
    )
    def turn(self, worker, order, limit, alone, ends, stale) -> None:
        worker = self.now_called.get(worker, worker)
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
        stops = {job.id for job in self.model.holds(worker) if job.stop is not None}
        # Queues behind the one that filled the limit were not asked.
        assert set(turn.stops) <= stops if limit else set(turn.stops) == stops

    def _outcomes(self, worker: str, ends: list[tuple[str, int, Marks, bool]]) -> list[Outcome]:
        held = self.model.holds(worker)
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
        """Return outcomes for some of the old leases."""
        held = {(job.queue, job.id) for job in self.model.jobs.values() if job.place == "held"}
        # Those whose job runs again come last: an old token is most dangerous there.
        old = sorted(self.old, key=lambda lease: (lease.queue, lease.id) in held)
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

    @rule(pick=picks, ends=st.lists(ends, min_size=1, max_size=4), stale=subset)
    def settle(self, pick: int, ends: list[tuple[str, int, Marks, bool]], stale: int) -> None:
        self.turn(self._holder(pick), QUEUES, 0, False, ends, stale)

    def _holder(self, pick: int) -> str:
        """Return a worker that holds something, if there is any."""
        return _pick(list(filter(self.model.holds, self._workers())) or self._workers(), pick)

    def _workers(self) -> list[str]:
        return list(self.now_called.values())

    @rule(worker=workers)
    def repeat_the_latest_outcomes(self, worker: str) -> None:
        worker = self.now_called[worker]
        latest = self.latest.get(worker, [])
        assert self.storage.settle(worker, latest) == [True] * len(latest)

    @rule(pick=picks, chosen=subset)
    def release(self, pick: int, chosen: int) -> None:
        worker = self._holder(pick)
        jobs = _some(self.model.holds(worker), chosen)
        leases = [(job.id, job.queue, job.token) for job in jobs]
        self.old += [_lease(job) for job in jobs]
        assert self.storage.release(worker, leases) == [True] * len(leases)
        if jobs:
            self.latest.pop(worker, None)
        self.model.release(worker, jobs)

    @rule(worker=workers, limit=st.integers(2, 5))
    def lease(self, worker: str, limit: int) -> None:
        self.turn(worker, QUEUES, limit, False, [], 0)

    @rule(
        worker=workers,
        limit=st.integers(0, 4),
        ends=st.lists(ends, max_size=3),
        dies=st.booleans(),
        chosen=subset,
    )
    def turn_whose_reply_is_lost(self, worker, limit, ends, dies, chosen) -> None:
        """The worker dies before it asks again, or repeats its outcomes and looks what it holds."""
        worker = self.now_called.get(worker, worker)
        if worker[0] not in self.model.served:
            return
        outcomes = self._outcomes(worker, ends)
        self.storage.turn(worker, outcomes, QUEUES, limit)
        self.model.settle(worker, outcomes)
        unseen = self.model.lease(worker, QUEUES, limit, alone=False) if limit else []
        held = {(one.queue, one.id): one for one in self.storage.holdings(worker, QUEUES)}
        self._leased([held[job.queue, job.id] for job in unseen], unseen)
        if dies:
            self.recover_worker(worker, chosen, "orphaned")
        elif outcomes:
            assert self.storage.settle(worker, outcomes) == [True] * len(outcomes)
            self.latest[worker] = outcomes

    @rule(pick=picks, key=st.sampled_from(KEYS), once=st.booleans(), late=st.booleans())
    def note(self, pick: int, key: str, once: bool, late: bool) -> None:
        worker = self._holder(pick)
        held = self.model.holds(worker)
        if not held:
            return
        job, value = _pick(held, pick), b"%d" % pick
        hold = LeaseKey(worker, job.id, job.queue, job.token - late)
        kept = "fenced" if late else "present" if once and key in job.notes else "kept"
        assert self.storage.note(hold, key, value, once=once) == kept
        if kept == "kept":
            job.notes[key] = value

    @rule(pick=picks)
    def stop(self, pick: int) -> None:
        queue, job_id = _pick([*self.model.jobs, ("q", "unknown")], pick)
        job = self.model.jobs.get((queue, job_id))
        answer = done(0, "cancelled")
        runs = job is not None and job.place == "held"
        assert self.storage.stop(job_id, queue, answer, 300) is runs
        if job is not None and runs:
            job.stop = answer

    # -- nodes and recovery --------------------------------------------------------------------

    def register(self, node: str) -> None:
        self.storage.register(Node(node), QUEUES, 600)
        self.model.served.add(node)

    def heartbeat(self, node: str) -> None:
        assert self.storage.heartbeat(node, QUEUES, 600) is (node in self.model.served)

    @rule(
        pick=picks,
        chosen=st.just(2**16 - 1) | subset,
        how=st.sampled_from(["orphaned", "orphaned", "interrupted", "timeout", "released"]),
    )
    def crash(self, pick: int, chosen: int, how: str) -> None:
        self.recover_worker(self._holder(pick), chosen, how)

    def recover_worker(self, worker: str, chosen: int, how: str) -> None:
        running = [job.token for job in _some(self.model.holds(worker), chosen)]
        self._forget(worker)
        rows = self.storage.recover_worker(worker, QUEUES, running=running, how=how)
        expected = self.model.recover(worker, set(running), how)
        assert {(row.queue, row.id): (row.how, row.marks, row.suspect) for row in rows} == expected
        assert {row.worker for row in rows} <= {worker}
        with pytest.raises(NodeExpired):
            self.storage.turn(worker, (), QUEUES, 5)
        [place] = [place for place, name in self.now_called.items() if name == worker]
        self.now_called[place] = f"{worker}+"

    @rule(node=st.sampled_from(NODES), clean=st.booleans())
    def lose_a_node(self, node: str, clean: bool) -> None:
        mine = [name for name in self._workers() if name[0] == node]
        if all(map(self.model.holds, mine)) and len(mine) > 1:
            return  # In which order several workers' jobs go back is left open.
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

        wait_until(all_promoted, "promotion")
        assert left == 0
        # Among jobs that are due in the same millisecond the order is left open.
        rows = self.storage.jobs(State.QUEUED)
        self.model.promote([(row.queue, row.id) for row in rows])

    @rule(what=controls, pick=picks, queue=queues, some=subset)
    def control(self, what: str, pick: int, queue: str, some: int) -> None:
        """One of the rarer calls, mostly on a job that exists."""
        queue, job_id = _pick([*self.model.jobs, (queue, f"j{pick}")], pick)
        if what in ("cancel", "reschedule", "hurry"):
            getattr(self, what)(job_id, queue)
        elif what in ("revive", "purge_dead"):
            dead = [job.id for job in self.model.jobs.values() if job.place == "dead"]
            getattr(self, what)(_some([*dict.fromkeys(dead), "unknown", job_id][:8], some))
        elif what in ("pause", "resume"):
            self.pause_or_resume(queue, paused=what == "pause")
        elif what == "fire":
            self.fire(_pick(["t@1000", "t@2000", "u@1000"], pick), job_id, queue)
        elif what in ("register", "heartbeat"):
            getattr(self, what)(_pick(NODES, pick))
        elif what == "purge_queue":
            self.purge_queue(queue)
        else:
            getattr(self, what)()

    def cancel(self, job_id: str, queue: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        answer = done(0, "cancelled") if job_id < "j4" else b""
        assert self.storage.cancel(job_id, queue, answer, 300) is self.model.is_waiting(job)
        if job is not None and self.model.is_waiting(job):
            self.model.finish(job, answer, JobEvent.CANCELLED)

    def reschedule(self, job_id: str, queue: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        at = now_ms() + FAR_MS
        assert self.storage.reschedule(job_id, queue, at) is self.model.is_waiting(job)
        if job is not None and self.model.is_waiting(job):
            self.model.delay(job)

    def hurry(self, job_id: str, queue: str) -> None:
        job = self.model.jobs.get((queue, job_id))
        if job is None or job.place == "later":
            assert self.storage.reschedule(job_id, queue, 0) is (job is not None)
            if job is not None:
                self.model.hurry(job)

    def revive(self, names: list[str]) -> None:
        names = list(dict.fromkeys(names))
        dead = [job for job in self.model.jobs.values() if job.place == "dead" and job.id in names]
        # Their order at the tail of a queue follows the order asked.
        dead.sort(key=lambda job: names.index(job.id))
        assert self.storage.revive(names) == len(dead)
        for job in dead:
            job.record, job.answer = payload(job.id, job.priority), b""
            self.model.revive(job)

    def purge_dead(self, names: list[str] | None = None) -> None:
        dead = [
            job
            for job in self.model.jobs.values()
            if job.place == "dead" and (names is None or job.id in names)
        ]
        assert self.storage.purge_dead(names) == len(dead)
        for job in dead:
            self.model.finish(job, job.answer, JobEvent.PURGED)

    def purge_queue(self, queue: str) -> None:
        assert self.storage.purge_queue(queue) == self.model.purge_queue(queue)

    def pause_or_resume(self, queue: str, *, paused: bool) -> None:
        (self.storage.pause if paused else self.storage.resume)(queue)
        self.model.queues[queue].paused = paused

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
        for worker in self._workers():
            held = {(one.queue, one.id): one.token for one in self.storage.holdings(worker, QUEUES)}
            assert held == {(job.queue, job.id): job.token for job in self.model.holds(worker)}

    @invariant()
    @precondition(lambda self: hasattr(self, "storage"))
    def notes_and_unique_keys_are_those_predicted(self) -> None:
        for (queue, job_id), job in self.model.jobs.items():
            assert self.storage.notes(job_id, queue) == job.notes
        for queue in QUEUES:
            for key in KEYS:
                holder = self.model.unique_holder(queue, key)
                assert self.storage.unique_holder(queue, key) == holder

    def drain(self) -> None:
        """Run everything to its end: all comes in the order predicted, and nothing is left."""
        for worker in self._workers():
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


def _pick(things: list, number: int):
    return things[number % len(things)]


def _some(things: list, chosen: int) -> list:
    return [thing for number, thing in enumerate(things) if chosen >> number & 1]


@pytest.mark.timeout(600)  # a failure takes minutes to be made small, and then explains itself
def test_a_storage_does_what_the_model_does(backend: Backend) -> None:
    class Machine(StorageMachine):
        pass

    Machine.backend = backend
    Machine.steps = 0
    # A cluster differs by its round trips only, of which it has more.
    steps_min = STEPS_MIN // 4 if backend.name == "cluster" else STEPS_MIN
    while Machine.steps < steps_min:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

"""The pump and its slots on the memory storage, in this process."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from taskqd import App
from taskqd.clock import monotonic_ns
from taskqd.errors import StorageRefused, StorageUnavailable
from taskqd.execution.runner import Runner
from taskqd.ipc import board
from taskqd.ipc.messages import (
    Drain,
    Drained,
    Empty,
    Interrupt,
    Quiet,
    Ready,
    Resume,
    StorageLost,
    StorageRestored,
)
from taskqd.jobs.job import State
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage.base import Leased, Node
from taskqd.storage.memory import MemoryStorage
from taskqd.storage.memory.state.bell import MemoryBell
from taskqd.worker.leasing import heartbeat, loop, quarantine
from tests.support.rigs.worker_rig import NODE, Jobs, WorkerRig, entries
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage("test", world=uuid.uuid4().hex)


@pytest.fixture(params=[0, 3], ids=["process", "thread"])
def threads(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def worker(storage: MemoryStorage, threads: int) -> Iterator[WorkerRig]:
    with WorkerRig(storage, threads=threads) as rig:
        rig.hear(Ready)
        yield rig


def jobs_of(rig: WorkerRig) -> Jobs:
    assert isinstance(rig.jobs, Jobs)
    return rig.jobs


def test_jobs_enqueued_before_and_after_the_start_are_run_once(
    storage: MemoryStorage, threads: int
) -> None:
    storage.enqueue(entries(300))
    with WorkerRig(storage, threads=threads) as rig:
        wait_until(lambda: rig.counts() == (0, 0))
        storage.enqueue(entries(50, prefix="late"))
        wait_until(lambda: rig.row.get(board.DONE) == 350)
        started = jobs_of(rig).started
        assert sorted(started) == sorted(set(started))
        assert storage.answer("job0299", "q") is not None


def test_a_process_worker_keeps_the_order(storage: MemoryStorage) -> None:
    storage.enqueue(entries(200))
    with WorkerRig(storage) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 200)
        assert jobs_of(rig).started == [entry.id for entry in entries(200)]


def test_an_idle_worker_is_woken_by_the_storage_and_sleeps_otherwise(worker: WorkerRig) -> None:
    for entry in entries(20):
        worker.storage.enqueue([entry])
        wait_until(lambda entry=entry: worker.storage.answer(entry.id, "q") is not None)
    assert len(jobs_of(worker).started) == 20


def test_a_long_job_holds_no_other_back(storage: MemoryStorage, threads: int) -> None:
    jobs = Jobs()
    batch = entries(400)
    # The queue starts with quick jobs, so that the worker reads ahead, and then gets slow.
    slots = threads or 1
    for entry in batch[300 : 300 + slots]:
        jobs.gate(entry.id)
    storage.enqueue(batch)
    with WorkerRig(storage, jobs=jobs, threads=threads) as rig:
        wait_until(lambda: len(jobs.started) == 300 + slots)
        wait_until(lambda: rig.counts() == (100 - slots, slots))
        with WorkerRig(storage, serial=2) as other:
            wait_until(lambda: len(jobs_of(other).started) == 100 - slots)
        for entry in batch[300 : 300 + slots]:
            jobs.gates[entry.id].set()
        wait_until(lambda: rig.counts() == (0, 0))


def test_an_outcome_is_settled_although_the_next_job_is_long(storage: MemoryStorage) -> None:
    jobs = Jobs()
    jobs.gate("job0001")
    storage.enqueue(entries(2))
    with WorkerRig(storage, jobs=jobs) as rig:
        wait_until(lambda: rig.storage.answer("job0000", "q") is not None)
        assert rig.counts() == (0, 1)


@pytest.mark.parametrize("quick", [1, 2, 5, 6, 12, 20])
def test_an_outcome_was_settled_a_second_late_when_long_jobs_had_been_read_ahead(
    storage: MemoryStorage, threads: int, quick: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody rang for what ended before the last unstarted jobs began; only the beat found it."""
    monkeypatch.setattr(loop, "HEAR_S", 1e6)
    monkeypatch.setattr(heartbeat, "BEAT_S", 1e6)
    slots = threads or 1
    for _ in range(5):
        jobs = Jobs()
        batch = entries(quick + slots, prefix=f"{uuid.uuid4().hex[:8]}-")
        for entry in batch[quick:]:
            jobs.gate(entry.id)
        with WorkerRig(storage, jobs=jobs, threads=threads) as rig:
            storage.enqueue(batch)
            for entry in batch[:quick]:
                wait_until(lambda entry=entry: storage.answer(entry.id, "q") is not None)
            for entry in batch[quick:]:
                jobs.gates[entry.id].set()
            wait_until(lambda: rig.counts() == (0, 0))


def test_with_ack_each_no_other_job_starts_before_the_outcome_is_settled(
    storage: MemoryStorage, threads: int
) -> None:
    class Watching(Jobs):
        def run(self, lease: Any, place: Any) -> Any:
            if self.started:
                assert storage.answer(self.started[-1], "q") is not None
            return super().run(lease, place)

    jobs = Watching()
    jobs.each = {entry.id for entry in entries(50)}
    storage.enqueue(entries(50))
    with WorkerRig(storage, jobs=jobs, threads=1 if threads else 0) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 50)


def test_drain_hands_unstarted_jobs_back_and_lets_running_ones_finish(
    storage: MemoryStorage,
) -> None:
    jobs = Jobs()
    jobs.gate("job0000")
    storage.enqueue(entries(10))
    with WorkerRig(storage, jobs=jobs) as rig:
        wait_until(lambda: jobs.started)
        rig.tell(Drain(20))
        wait_until(lambda: rig.stopping.stopping)
        wait_until(lambda: rig.counts() == (9, 1))
        assert 0 < jobs.places[0].seconds_left() <= 20
        jobs.gates["job0000"].set()
        last = rig.hear(Drained)
        assert isinstance(last, Drained)
        assert last.finished == 1
        assert last.interrupted == 0
        assert rig.counts() == (9, 0)
        rig.ended()


def test_interrupt_requeues_what_runs_and_settles_what_is_finished(
    storage: MemoryStorage, threads: int
) -> None:
    slots = threads or 1
    jobs = Jobs()
    for entry in entries(slots):
        jobs.gate(entry.id)
    storage.enqueue(entries(10))
    with WorkerRig(storage, jobs=jobs, threads=threads) as rig:
        wait_until(lambda: len(jobs.started) == slots)
        rig.tell(Interrupt())
        last = rig.hear(Drained)
        assert isinstance(last, Drained)
        assert last.interrupted == slots
        assert rig.counts() == (10, 0)
        row = storage.job("job0000", "q")
        assert row is not None
        assert row.state == State.QUEUED
        assert row.record.startswith(b"[1,0,1,0,")
        # What finishes after that is not taken: another worker has the job by now.
        rig.ended()


def test_of_two_that_outlast_the_grace_the_late_one_counts_a_failure() -> None:
    """It used to go back as interrupted with its siblings, each time, and never came to an end."""
    app = App("late", f"memory://{uuid.uuid4().hex}")
    gate, began = threading.Event(), threading.Barrier(3)

    @app.task(name="late", timeout=0.01, retries=1)
    def late() -> None:
        began.wait(20)
        gate.wait(20)

    @app.task(name="sibling")
    def sibling() -> None:
        began.wait(20)
        gate.wait(20)

    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    overran, innocent = late(), sibling()
    with WorkerRig(app.storage, jobs=runner, threads=2, queues=("default",)) as rig:
        began.wait(20)
        wait_until(lambda: any(0 < v.deadline_ns < monotonic_ns() for v in rig.row.busy()))
        rig.tell(Drain(60))
        rig.tell(Interrupt())
        rig.hear(Drained)
        gate.set()
    assert innocent.info()["interruptions"] == 1
    info = overran.info()
    assert (info["state"], info["failures"], info["interruptions"]) == ("queued", 1, 0)
    assert info["error"] == "TaskTimeout: ran longer than 0.01 s"
    assert "in late" in info["traceback"]


def test_quiet_stops_leasing_and_resume_goes_on(worker: WorkerRig) -> None:
    worker.tell(Quiet())
    worker.storage.enqueue(entries(1, prefix="a"))
    worker.storage.enqueue(entries(5, prefix="b"))
    time.sleep(0.05)
    started = len(jobs_of(worker).started)
    assert started <= 1  # one job may have been handed over before the worker was quiet
    worker.tell(Resume())
    wait_until(lambda: len(jobs_of(worker).started) == 6)


def test_term_and_a_vanished_master_drain_the_worker(storage: MemoryStorage, threads: int) -> None:
    with WorkerRig(storage, threads=threads) as rig:
        rig.hear(Ready)
        os.write(rig.term_fd, bytes([signal.SIGTERM]))
        rig.hear(Drained)
    with WorkerRig(storage, threads=threads, serial=2) as rig:
        rig.hear(Ready)
        rig.master.shutdown(2)
        rig.ended()


def test_burst_says_empty_once_no_worker_of_the_node_has_anything(
    storage: MemoryStorage,
) -> None:
    jobs = Jobs()
    jobs.gate("job0000")
    storage.enqueue(entries(1))
    with (
        WorkerRig(storage, jobs=jobs, burst=True) as busy,
        WorkerRig(storage, burst=True, serial=2) as idle,
    ):
        wait_until(lambda: jobs.started or jobs_of(idle).started)
        if not jobs.started:
            return
        idle.hear(Ready)
        idle.master.settimeout(0.5)
        with pytest.raises(TimeoutError):
            idle.hear(Empty)
        jobs.gates["job0000"].set()
        idle.master.settimeout(20)
        idle.hear(Empty)
        busy.hear(Empty)


class Telling(MemoryStorage):
    """Tells its worker what `stops`, `orders` and `suspects` say."""

    stops: tuple[str, ...] = ()
    orders = False
    suspects = 0

    def turn(self, *args: Any, **kwargs: Any) -> Leased:
        leased = super().turn(*args, **kwargs)
        return leased._replace(stops=self.stops, revocations=self.orders, suspects=self.suspects)


def test_a_worker_that_cannot_run_empty_for_a_suspect_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quarantine, "PATIENCE_S", 0.2)
    storage = Telling("test", world=uuid.uuid4().hex)
    storage.suspects = 1
    jobs = Jobs()
    jobs.gate("job0000")
    storage.enqueue(entries(1))
    with WorkerRig(storage, jobs=jobs, threads=2):
        wait_until(lambda: jobs.started)
        storage.enqueue(entries(5, prefix="more"))
        wait_until(lambda: len(jobs.started) == 6)


def test_a_worker_with_a_free_slot_asks_again_after_it_has_run_empty_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not armed any more then, and its last turn gave nothing: nobody else would wake it."""
    monkeypatch.setattr(quarantine, "PATIENCE_S", 0.5)
    monkeypatch.setattr(loop, "HEAR_S", 0.05)
    storage = Telling("test", world=uuid.uuid4().hex)
    jobs = Jobs()
    jobs.gate("job0000")
    storage.enqueue(entries(1))
    with WorkerRig(storage, jobs=jobs, threads=2) as rig:
        wait_until(lambda: jobs.started and rig.loop._wakeup.armed)
        storage.suspects = 1
        wait_until(lambda: not rig.loop._wakeup.armed)
        storage.enqueue(entries(5, prefix="more"))
        wait_until(lambda: len(jobs.started) == 6)


def test_a_running_job_hears_that_it_shall_stop_and_its_neighbours_do_not() -> None:
    storage = Telling("test", world=uuid.uuid4().hex)
    jobs = Jobs()
    for entry in entries(2):
        jobs.gate(entry.id)
    storage.enqueue(entries(2))
    with WorkerRig(storage, jobs=jobs, threads=2):
        wait_until(lambda: len(jobs.started) == 2)
        places = dict(zip(jobs.started, jobs.places, strict=True))
        storage.stops = ("job0000",)
        wait_until(lambda: places["job0000"].stopping)
        assert not places["job0001"].stopping


def test_an_asyncio_worker_runs_as_many_plain_functions_as_it_has_slots(
    storage: MemoryStorage,
) -> None:
    """They used to share the few threads that a loop has by default."""
    jobs = Jobs()
    for entry in entries(40):
        jobs.gate(entry.id)
    storage.enqueue(entries(40))
    with WorkerRig(storage, jobs=jobs, coroutines=40):
        wait_until(lambda: len(jobs.started) == 40)


def test_standing_orders_are_heeded_before_a_job_of_the_same_turn_starts() -> None:
    storage = Telling("test", world=uuid.uuid4().hex)

    class Watching(Jobs):
        def run(self, lease: Any, place: Any) -> Any:
            assert self.orders_stand == storage.orders
            return super().run(lease, place)

    jobs = Watching()
    storage.orders = True
    storage.enqueue(entries(1))
    with WorkerRig(storage, jobs=jobs) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 1)
        storage.orders = False
        storage.enqueue(entries(1, prefix="more"))
        wait_until(lambda: rig.row.get(board.DONE) == 2)


class Flaky(MemoryStorage):
    """Loses its connection when told to; `after`: the call takes effect and its reply is lost."""

    down = False
    refused = False
    drop_reply = False

    def turn(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        leased = super().turn(*args, **kwargs)
        if self.drop_reply:
            self.drop_reply = False
            raise StorageUnavailable("the reply was lost")
        return leased

    def holdings(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        return super().holdings(*args, **kwargs)

    def _fail(self) -> None:
        if self.refused:
            raise StorageRefused("wrong password")
        if self.down:
            raise StorageUnavailable("it is down")


@pytest.fixture
def flaky() -> Flaky:
    return Flaky("test", world=uuid.uuid4().hex)


def test_another_cause_of_an_outage_is_told_as_well(flaky: Flaky) -> None:
    flaky.enqueue(entries(1))
    with WorkerRig(flaky, jobs=Jobs()) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 1)
        flaky.down = True
        MemoryStorage.enqueue(flaky, entries(1, prefix="more"))
        assert not rig.hear(StorageLost).refused
        flaky.refused = True
        assert rig.hear(StorageLost).refused
        flaky.refused = flaky.down = False
        rig.hear(StorageRestored)


def test_an_outage_is_told_once_and_outcomes_survive_it(flaky: Flaky, threads: int) -> None:
    jobs = Jobs()
    jobs.gate("job0000")
    flaky.enqueue(entries(1))
    with WorkerRig(flaky, jobs=jobs, threads=threads) as rig:
        wait_until(lambda: jobs.started)
        flaky.down = True
        jobs.gates["job0000"].set()
        rig.hear(StorageLost)
        time.sleep(0.3)
        MemoryStorage.enqueue(flaky, entries(5, prefix="more"))
        flaky.down = False
        rig.hear(StorageRestored)
        wait_until(lambda: rig.row.get(board.DONE) == 6)
        assert [type(message) for message in rig.said].count(StorageLost) == 1
        assert jobs.started.count("job0000") == 1


def test_jobs_leased_by_a_turn_whose_reply_was_lost_are_run(flaky: Flaky, threads: int) -> None:
    flaky.enqueue(entries(40))
    flaky.drop_reply = True
    with WorkerRig(flaky, threads=threads) as rig:
        wait_until(lambda: rig.row.get(board.DONE) == 40)
        assert rig.counts() == (0, 0)
        assert len(jobs_of(rig).started) == 40


def test_a_worker_waits_until_its_node_is_registered(flaky: Flaky) -> None:
    flaky.enqueue(entries(3))
    with WorkerRig(flaky, register=False) as rig:
        time.sleep(0.1)
        assert not jobs_of(rig).started
        flaky.register(Node(NODE), ("q",), 600)
        rig.hear(Ready)
        wait_until(lambda: rig.row.get(board.DONE) == 3)
        assert not rig.said[:-1]


@pytest.mark.parametrize("each", [False, True], ids=["batch", "each"])
def test_a_job_of_an_expired_node_is_fenced_and_runs_again(
    storage: MemoryStorage, each: bool
) -> None:
    jobs = Jobs()
    jobs.gate("job0000")
    jobs.each = {"job0000"} if each else set()
    storage.enqueue(entries(1))
    with WorkerRig(storage, jobs=jobs) as rig:
        wait_until(lambda: jobs.started)
        storage.recover_node(NODE, ("q",))
        storage.register(Node(NODE), ("q",), 600)
        jobs.gates["job0000"].set()
        # The first run is fenced and the job, recovered, runs again.
        wait_until(lambda: rig.row.get(board.DONE) == 1)
        assert jobs.started == ["job0000", "job0000"]


def test_the_master_is_told_of_a_loss_before_the_bell_is_let_go_of(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, told = threading.Event(), threading.Event()
    close = MemoryBell.close

    def closed_late(bell: MemoryBell) -> None:
        if flaky.down:  # as a server that does not answer
            told.wait(HANG_S)
        close(bell)
        released.set()

    monkeypatch.setattr(MemoryBell, "close", closed_late)
    with WorkerRig(flaky, jobs=Jobs()) as rig:
        rig.hear(Ready)
        flaky.down = True
        MemoryStorage.enqueue(flaky, entries(1))
        rig.hear(StorageLost)
        assert not released.is_set()
        told.set()
        flaky.down = False
        rig.hear(StorageRestored)


def test_a_worker_that_is_quiet_from_its_start_is_ready(storage: MemoryStorage) -> None:
    """It never said so, and its master killed it each minute as stuck in its start."""
    storage.enqueue(entries(1))
    rig = WorkerRig(storage)
    rig.tell(Quiet())
    with rig:
        rig.hear(Ready)
        assert rig.counts() == (1, 0)
        rig.tell(Resume())
        wait_until(lambda: rig.row.get(board.DONE) == 1)

"""Waking without polling: an idle worker sleeps in a real `select` wait_until there is work."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import Lease
from taskqd.storage.base import Bell, Storage
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.storages import Backend
from tests.support.waiting import HANG_S, wait_until


class Sleeper:
    """An idle worker in a thread with its own handle, as a pump uses a bell."""

    def __init__(self, backend: Backend, rig: Rig, worker: str, limit: int = 1) -> None:
        self.got: list[Lease] = []
        self.asleep = threading.Event()
        self._stop = threading.Event()
        self._backend = backend
        self._rig = rig
        self._worker = worker
        self._limit = limit
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        storage = self._backend.open(self._rig.storage.namespace)
        bell = storage.bell(self._worker, self._rig.queues)
        deadline = time.monotonic() + HANG_S
        while not self.got and not self._stop.is_set() and time.monotonic() < deadline:
            self.got += self._ask(storage)
            if not self.got:
                bell.arm()
                self.got += self._ask(storage, idle=True)
            if not self.got:
                self.asleep.set()
                self.got += self._sleep(bell)
        self.got += bell.disarm()
        bell.close()
        storage.close()

    def _sleep(self, bell: Bell) -> list[Lease]:
        assert bell.fileno() >= 0
        deadline = time.monotonic() + HANG_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            if select.select([bell.fileno()], [], [], 0.1)[0]:
                leases = bell.answer()
                if leases is not None:
                    return leases
        return []

    def _ask(self, storage: Storage, *, idle: bool = False) -> list[Lease]:
        turn = storage.turn(
            self._worker, (), self._rig.queues, self._limit, idle=idle, alone=True, share=2
        )
        return turn.leases

    def woken(self) -> list[str]:
        wait_until(lambda: self.got, "wake-up")
        self._thread.join(HANG_S)
        return ids(self.got)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(HANG_S)
        assert not self._thread.is_alive()


@pytest.fixture
def sleeper(backend: Backend, rig2: Rig) -> Iterator[Sleeper]:
    one = Sleeper(backend, rig2, "n.7")
    assert one.asleep.wait(HANG_S)
    yield one
    one.stop()


def test_an_enqueued_job_wakes_an_idle_worker(rig2: Rig, sleeper: Sleeper) -> None:
    rig2.put("a")
    assert sleeper.woken() == ["a"]


def test_each_of_its_queues_wakes_it(rig2: Rig, sleeper: Sleeper) -> None:
    rig2.put("a", queue="r")
    assert sleeper.woken() == ["a"]


def test_a_promoted_job_wakes_it(rig2: Rig, sleeper: Sleeper) -> None:
    rig2.put("a", run_at_ms=now_ms() + 20)
    # A storage that takes it in late queues it at once.
    wait_until(lambda: rig2.storage.promote(["q"]).promoted or sleeper.got, "promotion")
    assert sleeper.woken() == ["a"]


def test_a_fired_tick_wakes_it(rig2: Rig, sleeper: Sleeper) -> None:
    assert rig2.storage.fire("sweep@1000", [entry("a")])
    assert sleeper.woken() == ["a"]


def test_a_revived_job_wakes_it(backend: Backend, rig2: Rig) -> None:
    rig2.put("a")
    [lease] = rig2.lease()
    rig2.settle(outcome(lease, "bury", reason="failed"))
    sleeper = Sleeper(backend, rig2, "n.7")
    assert sleeper.asleep.wait(HANG_S)
    rig2.storage.revive(["a"])
    assert sleeper.woken() == ["a"]


@pytest.mark.parametrize("how", ["release", "requeue", "retry", "recover", "node", "suspects"])
def test_a_job_given_back_wakes_it(backend: Backend, rig2: Rig, how: str) -> None:
    rig2.register("other")
    rig2.put("a", "b")
    leases = rig2.lease(2, worker="other.1")
    tokens = [lease.token for lease in leases]
    sleeper = Sleeper(backend, rig2, "n.7")
    assert sleeper.asleep.wait(HANG_S)
    storage = rig2.storage
    if how == "release":
        storage.release("other.1", [(job.id, job.queue, job.token) for job in leases])
    elif how == "recover":
        storage.recover_worker("other.1", ["q"], running=tokens[:1], how="orphaned")
    elif how == "suspects":
        storage.recover_worker("other.1", ["q"], running=tokens, how="orphaned")
    elif how == "node":
        storage.recover_node("other", ["q"])
    else:
        rig2.settle(*(outcome(lease, how) for lease in leases), worker="other.1")
    assert sleeper.woken() == ["a"]


def test_a_resumed_queue_wakes_it(backend: Backend, rig2: Rig) -> None:
    rig2.storage.pause("q")
    rig2.put("a")
    sleeper = Sleeper(backend, rig2, "n.7")
    assert sleeper.asleep.wait(HANG_S)
    rig2.storage.resume("q")
    assert sleeper.woken() == ["a"]


def test_a_job_rescheduled_to_now_wakes_it(rig2: Rig, sleeper: Sleeper) -> None:
    rig2.put("a", run_at_ms=now_ms() + 60_000)
    rig2.storage.reschedule("a", "q", 0)
    assert sleeper.woken() == ["a"]


def test_as_many_jobs_wake_as_many_workers(backend: Backend, rig2: Rig) -> None:
    sleepers = [Sleeper(backend, rig2, f"n.{number}") for number in range(11, 15)]
    for sleeper in sleepers:
        assert sleeper.asleep.wait(HANG_S)
    rig2.put("a", "b", "c", "d")
    got = sorted(name for sleeper in sleepers for name in sleeper.woken())
    assert got == ["a", "b", "c", "d"]


def test_jobs_one_by_one_wake_worker_after_worker(backend: Backend, rig2: Rig) -> None:
    sleepers = [Sleeper(backend, rig2, f"n.{number}") for number in range(11, 14)]
    for sleeper in sleepers:
        assert sleeper.asleep.wait(HANG_S)
    for name in ("a", "b", "c"):
        rig2.put(name)
    got = sorted(name for sleeper in sleepers for name in sleeper.woken())
    assert got == ["a", "b", "c"]


def test_a_job_enqueued_between_arming_and_sleeping_is_found(rig2: Rig) -> None:
    bell = rig2.storage.bell("n.1", rig2.queues)
    assert rig2.lease() == []
    bell.arm()
    rig2.put("a")
    got = rig2.storage.turn("n.1", (), rig2.queues, 1, idle=True).leases + bell.disarm()
    assert ids(got) == ["a"]
    bell.close()


def test_a_disarmed_bell_is_handed_nothing(rig2: Rig) -> None:
    bell = rig2.storage.bell("n.1", rig2.queues)
    bell.arm()
    assert rig2.storage.turn("n.1", (), rig2.queues, 1, idle=True).leases == []
    assert bell.disarm() == []
    rig2.put("a")
    assert rig2.counts() == (1, 0, 0, 0)
    bell.close()


def test_a_job_that_an_idle_worker_got_when_it_died_is_recovered(rig2: Rig) -> None:
    """Whether it was handed over or only announced, it is queued after recovery."""
    bell = rig2.storage.bell("n.1", rig2.queues)
    bell.arm()
    assert rig2.storage.turn("n.1", (), rig2.queues, 1, idle=True).leases == []
    rig2.put("a")
    bell.close()
    rig2.storage.recover_worker("n.1", rig2.queues, running=[], how="orphaned")
    leases = rig2.lease(worker="n.2")
    assert ids(leases) == ["a"]
    assert rig2.settle(*map(ack, leases), worker="n.2") == [True]


def test_an_idle_worker_whose_node_was_taken_for_dead_is_woken_by_the_next_job(rig2: Rig) -> None:
    """A daemon that was frozen is back: its idle workers were deaf wait_until their next poll."""
    bell = rig2.storage.bell("n.1", rig2.queues)
    bell.arm()
    assert rig2.lease(idle=True) == []
    rig2.storage.recover_node("n", rig2.queues)
    rig2.register("n")
    rig2.put("a", queue="r")
    assert ids(rung(bell) or rig2.lease()) == ["a"]
    bell.close()
    assert list(rig2.storage.leftovers()) == []


def test_a_bell_is_quiet_when_nothing_comes(rig2: Rig) -> None:
    bell = rig2.storage.bell("n.1", rig2.queues)
    bell.arm()
    assert rig2.storage.turn("n.1", (), rig2.queues, 1, idle=True).leases == []
    assert bell.poll_s > 0
    assert select.select([bell.fileno()], [], [], 0.05)[0] == []
    bell.close()


def test_an_earlier_delayed_job_wakes_a_scheduler(rig2: Rig) -> None:
    rig2.put("late", run_at_ms=now_ms() + 100_000)
    bell = rig2.storage.timer_bell(rig2.queues)
    bell.arm()
    first = rig2.storage.promote(rig2.queues)
    assert first.next_in_s is not None
    assert first.next_in_s > 80
    rig2.put("early", run_at_ms=now_ms() + 50_000)
    assert rung(bell) == []
    bell.arm()
    second = rig2.storage.promote(rig2.queues)
    assert second.next_in_s is not None
    assert second.next_in_s < 60
    rig2.put("later still", run_at_ms=now_ms() + 200_000)
    assert bell.disarm() == []
    bell.close()


@pytest.mark.parametrize("how", ["put", "drop"])
def test_a_changed_schedule_wakes_a_scheduler(backend: Backend, rig2: Rig, how: str) -> None:
    rig2.storage.schedule_put("old", b"1")
    other = backend.open(rig2.storage.namespace)
    bell = other.timer_bell(rig2.queues)
    bell.arm()
    assert other.promote(rig2.queues).next_in_s is None
    if how == "put":
        rig2.storage.schedule_put("new", b"2")
    else:
        rig2.storage.schedule_drop("old")
    rung(bell)
    bell.close()
    other.close()


@pytest.mark.parametrize("how", ["retry", "reschedule"])
def test_whatever_delays_a_job_wakes_a_scheduler(backend: Backend, rig2: Rig, how: str) -> None:
    rig2.put("a")
    other = backend.open(rig2.storage.namespace)
    bell = other.timer_bell(rig2.queues)
    bell.arm()
    assert other.promote(rig2.queues).next_in_s is None
    if how == "retry":
        [lease] = rig2.lease()
        rig2.settle(outcome(lease, "retry", delay_ms=50_000))
    else:
        rig2.storage.reschedule("a", "q", now_ms() + 50_000)
    rung(bell)
    assert other.promote(rig2.queues).next_in_s is not None
    bell.close()
    other.close()

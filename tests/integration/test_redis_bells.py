"""Handing jobs to idle workers: one hop, nothing twice, nothing lost."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from taskqd.jobs.job import Lease, Outcome, State
from taskqd.storage.redis import RedisStorage
from taskqd.storage.redis.keyspace.bell import RedisBell
from tests.support.rigs.rig import Rig, ack, done, entry, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.redis_server import RedisServer, servers
from tests.support.waiting import HANG_S, wait_until

QUEUES = ("q", "r")


server = servers()


@pytest.fixture
def rig(server: RedisServer) -> Iterator[Rig]:
    server.client().flushall()
    storage = RedisStorage(server.url, "shop")
    yield Rig(storage, QUEUES)
    storage.close()


class Worker:
    """A worker with its own connections, idle on both queues."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.name = name
        self.storage = RedisStorage(server.url, "shop")
        self.bell: RedisBell = self.storage.bell(name, QUEUES)

    def idle(self) -> list[Lease]:
        self.bell.arm()
        return self.storage.turn(self.name, (), QUEUES, 4, idle=True, alone=True).leases

    def rings(self) -> bool:
        return bool(select.select([self.bell.fileno()], [], [], 0)[0])

    def answer(self) -> list[str]:
        return ids(rung(self.bell))


@pytest.fixture
def workers(server: RedisServer, rig: Rig) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        found = [Worker(server, f"n.{number}") for number in (1, 2)]
        for worker in found:
            stack.callback(worker.storage.close)
        yield found


def test_a_job_comes_with_the_ring_and_is_leased(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    assert one.idle() == []
    rig.put("a")
    assert rig.states() == {"a": "running"}
    assert one.answer() == ["a"]
    [lease] = one.storage.holdings("n.1", QUEUES)
    assert one.storage.settle("n.1", [ack(lease)]) == [True]


def test_jobs_come_one_each_and_the_rest_waits(rig: Rig, workers: list[Worker]) -> None:
    for worker in workers:
        assert worker.idle() == []
    rig.put("a", "b", "c", "d")
    assert rig.counts() == (2, 0, 2, 0)
    assert sorted(workers[0].answer() + workers[1].answer()) == ["a", "b"]


def test_the_highest_priority_is_handed_first(rig: Rig, workers: list[Worker]) -> None:
    assert workers[0].idle() == []
    rig.storage.enqueue([entry("low"), entry("high", priority=7)])
    assert workers[0].answer() == ["high"]


def test_a_ring_ends_idleness_on_every_queue(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    one.idle()
    rig.put("a")
    assert one.answer() == ["a"]
    rig.put("b", queue="r")
    rig.put("c", queue="q")
    assert rig.states() == {"a": "running", "b": "queued", "c": "queued"}


def test_rings_of_two_queues_at_once_are_both_heard(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    one.idle()
    rig.put("a")
    rig.put("b", queue="r")
    assert sorted(one.answer()) == ["a", "b"]
    assert sorted(ids(one.storage.holdings("n.1", QUEUES))) == ["a", "b"]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_job_handed_while_the_worker_disarms_is_kept(
    rig: Rig, workers: list[Worker], queue: str
) -> None:
    one, _ = workers
    one.idle()
    rig.put("a", queue=queue)
    assert ids(one.bell.disarm()) == ["a"]
    assert one.bell.disarm() == []
    assert one.idle() == []
    assert not one.rings()
    rig.put("b", queue=queue)
    assert one.answer() == ["b"]


def test_a_job_handed_before_another_idle_turn_is_kept(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    one.idle()
    rig.put("a")
    assert one.idle() == []
    assert one.answer() == ["a"]
    rig.put("b")
    assert rig.states()["b"] == "queued"
    assert ids(one.idle()) == ["b"]
    assert one.bell.disarm() == []


def test_a_job_handed_before_a_turn_that_leases_is_kept(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    one.idle()
    rig.put("a", "b")
    assert ids(one.idle()) == ["b"]
    assert ids(one.bell.disarm()) == ["a"]
    rig.put("c")
    assert rig.states()["c"] == "queued"


def test_arming_again_and_again_costs_no_connection(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    for number in range(20):
        one.bell.arm()
        rig.put(f"j{number}")
        assert ids(one.idle()) == [f"j{number}"]
        assert one.bell.disarm() == []
        one.storage.settle("n.1", map_ack(one))
    assert one.bell._reads._all[0]._link.connects == 1


def map_ack(worker: Worker) -> list[Outcome]:
    return [
        ack(lease)
        for row in worker.storage.jobs(State.RUNNING)
        for lease in [_lease_of(worker, row.id)]
    ]


def _lease_of(worker: Worker, job_id: str) -> Lease:
    row = worker.storage._link.call("HGET", "{shop:q}:held:n.1", job_id)
    return Lease(job_id, "q", int(row), b"")


def test_a_blocking_read_that_ends_empty_goes_on_and_now_and_then_asks_for_a_turn(
    rig: Rig, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskqd.storage.redis.link.blocking_reads.BLOCK_S", 0.05)
    worker = Worker(server, "n.4")
    worker.idle()
    assert select.select([worker.bell.fileno()], [], [], HANG_S)[0]
    assert worker.bell.answer() is None
    rig.put("handed")
    assert worker.answer() == ["handed"]
    worker.storage.close()
    monkeypatch.setattr("taskqd.storage.redis.keyspace.bell.ASK_S", 0.0)
    worker = Worker(server, "n.3")
    worker.idle()
    assert worker.answer() == []
    rig.put("a")
    assert rig.states()["a"] == "queued"
    assert ids(worker.idle()) == ["a"]
    worker.storage.close()


def test_a_paused_queue_hands_nothing(rig: Rig, workers: list[Worker]) -> None:
    one, _ = workers
    rig.storage.pause("q")
    one.idle()
    rig.put("a")
    assert not one.rings()
    assert rig.states() == {"a": "queued"}
    rig.storage.resume("q")
    assert one.answer() == ["a"]


def test_idle_workers_of_an_expired_node_are_handed_nothing(rig: Rig, server: RedisServer) -> None:
    rig.register("gone", lease_s=0.02)
    worker = Worker(server, "gone.1")
    assert worker.idle() == []
    wait_until(lambda: _expired(rig, "gone"), "expiry")
    rig.put("a")
    assert rig.states() == {"a": "queued"}
    assert rig.storage.recover(QUEUES) == []
    assert [row.node.id for row in rig.storage.nodes()] == ["n"]
    assert server.client().keys("*gone*") == []
    worker.storage.close()


def _expired(rig: Rig, node: str) -> bool:
    return any(row.node.id == node and row.expires_in_s < 0 for row in rig.storage.nodes())


def test_a_dead_idle_worker_leaves_nothing_behind(
    rig: Rig, server: RedisServer, workers: list[Worker]
) -> None:
    one, _ = workers
    one.idle()
    one.bell._reads.close()  # as a kill does: the server sees the end of the connection
    rig.put("a", "b")
    rows = rig.storage.recover_worker("n.1", QUEUES, running=[], how="orphaned", verdict="9")
    assert [(row.id, row.how) for row in rows] == [("a", "released")]
    client = server.client()
    left = client.keys("*n.1*")
    assert left == [b"{%s}:gone:n.1" % rig.storage.namespace.encode()], "the mark of its end"
    assert client.ttl(left[0]) > 0
    assert rig.order() == ["a", "b"]


def test_a_job_that_was_handed_but_never_read_blames_nobody(rig: Rig, server: RedisServer) -> None:
    rig.register("gone")
    worker = Worker(server, "gone.1")
    rig.put("running")
    assert ids(worker.idle()) == ["running"]
    assert worker.idle() == []
    worker.bell._reads.close()
    rig.put("handed", queue="r")
    rows = {row.id: (row.how, row.suspect) for row in rig.storage.recover_node("gone", QUEUES)}
    assert rows == {"running": ("orphaned", False), "handed": ("released", False)}
    worker.storage.close()


def test_every_idle_worker_is_told_of_suspects(rig: Rig, workers: list[Worker]) -> None:
    rig.put("a", "b")
    tokens = [lease.token for lease in rig.lease(2, worker="n.9")]
    for worker in workers:
        assert worker.idle() == []
    rig.storage.recover_worker("n.9", QUEUES, running=tokens, how="orphaned")
    for worker in workers:
        assert worker.answer() == []
    got = [lease for worker in workers for lease in worker.idle()]
    assert sorted((lease.id, lease.alone) for lease in got) == [("a", True), ("b", True)]


def test_holdings_after_a_broken_bell_have_the_handed_job_once(
    rig: Rig, workers: list[Worker]
) -> None:
    one, _ = workers
    one.idle()
    rig.put("a")
    assert ids(one.storage.holdings("n.1", QUEUES)) == ["a"]
    assert one.bell.fileno() == -1
    assert one.idle() == []
    assert not one.rings()


def test_thousands_of_jobs_among_idle_workers_are_run_once_each(
    rig: Rig, server: RedisServer
) -> None:
    """Producers and workers race; every worker arms, disarms and sleeps all the time."""
    total, stop, lock = 3000, threading.Event(), threading.Lock()
    ran: list[str] = []

    def work(number: int) -> None:
        worker = Worker(server, f"n.{10 + number}")
        outcomes: list[Outcome] = []
        while not stop.is_set():
            worker.bell.arm()
            turn = worker.storage.turn(
                worker.name, outcomes, QUEUES, 1 + number, idle=True, share=4
            )
            assert all(turn.settled)
            leases = turn.leases
            if leases:
                leases = leases + worker.bell.disarm()
            elif select.select([worker.bell.fileno()], [], [], 0.2)[0]:
                leases = worker.bell.answer() or worker.bell.disarm()
            else:
                leases = worker.bell.disarm()
            with lock:
                ran.extend(lease.id for lease in leases)
            outcomes = [ack(lease) for lease in leases]
        worker.storage.settle(worker.name, outcomes)
        worker.storage.close()

    def produce(queue: str) -> None:
        storage = RedisStorage(server.url, "shop")
        for number in range(0, total, 3):
            storage.enqueue([entry(f"{queue}{number + i}", queue) for i in range(3)])
        storage.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=produce, args=(queue,)) for queue in QUEUES]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(ran) >= 2 * total, "all jobs")
    stop.set()
    for thread in threads:
        thread.join(HANG_S)
        assert not thread.is_alive()
    assert len(ran) == len(set(ran)) == 2 * total
    assert rig.states() == {}
    assert list(rig.storage.leftovers()) == []
    assert server.client().keys("*:held:*") + server.client().keys("*:inbox:*") == []


# -- waiting for answers -----------------------------------------------------------------------


def test_a_waiter_is_told_and_leaves_no_trace(rig: Rig, server: RedisServer) -> None:
    rig.put("a", "b")
    caller = RedisStorage(server.url, "shop")
    leases = rig.lease(2)
    threading.Timer(0.05, lambda: rig.settle(ack(leases[0]))).start()
    caller.wait([("a", "q"), ("b", None)], HANG_S)
    assert caller.answer("a", "q") is not None
    assert server.client().hgetall("{shop:q}:waiters").keys() == {b"b"}
    caller.close()
    assert server.client().keys("*waiters") + server.client().keys("*mail*") == []


def test_waiting_for_many_asks_once_for_each(rig: Rig, server: RedisServer) -> None:
    names = [f"j{number}" for number in range(1500)]
    rig.put(*names)
    caller = RedisStorage(server.url, "shop")
    thread = threading.Thread(target=_drain, args=(rig,))
    thread.start()
    left = {(name, "q") for name in names}
    calls = 0
    while left:
        calls += 1
        found = caller.answers(sorted(left))
        left -= {job for job, answer in zip(sorted(left), found, strict=True) if answer}
        if left:
            caller.wait(sorted(left), HANG_S)
    thread.join()
    assert calls < 1500
    caller.close()
    assert server.client().keys("*waiters") + server.client().keys("*mail*") == []


def _drain(rig: Rig) -> None:
    while leases := rig.lease(50):
        rig.settle(*map(ack, leases))


@pytest.mark.parametrize("how", ["cancel", "purge", "bury"])
def test_every_way_to_end_tells_the_waiter(rig: Rig, server: RedisServer, how: str) -> None:
    rig.put("a")
    caller = RedisStorage(server.url, "shop")
    woken = threading.Event()

    def wait() -> None:
        caller.wait([("a", "q")], HANG_S)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: server.client().exists("{shop:q}:waiters"), "registration")
    if how == "cancel":
        rig.storage.cancel("a", "q", done(0, "cancelled"), 300)
    elif how == "purge":
        rig.storage.purge_queue("q")
    else:
        [lease] = rig.lease()
        rig.settle(outcome(lease, "bury", answer=done(lease.token, "dead"), reason="failed"))
    assert woken.wait(HANG_S)
    thread.join()
    caller.close()

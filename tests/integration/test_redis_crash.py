"""A server that is killed and comes back with its append-only file, or empty."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from taskqd.errors import NodeExpired, OutcomeUnknown, StorageRefused, StorageUnavailable
from taskqd.jobs.job import Lease, Outcome
from taskqd.storage.base import Node
from taskqd.storage.features import Revocation
from taskqd.storage.redis import RedisStorage
from taskqd.storage.redis.keyspace import durable
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.ports import free_port
from tests.support.servers.redis_server import RedisServer, available_servers
from tests.support.waiting import wait_until

KINDS = sorted(available_servers())


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    binary = available_servers()[request.param]
    with RedisServer(binary, tmp_path, appendfsync="always") as running:
        yield running


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server: RedisServer) -> None:
    storage = RedisStorage(server.url, "shop")
    rig = Rig(storage)
    rig.put(*(f"j{number}" for number in range(100)))
    leases = rig.lease(40)
    ended = set(ids(leases))
    rig.settle(*map(ack, leases))
    held = rig.lease(10)
    epoch = storage.epoch()
    server.kill()
    with pytest.raises(StorageUnavailable):
        storage.lease("n.1", ["q"], 1)
    server.start()
    assert storage.epoch() == epoch
    assert rig.counts() == (50, 0, 10, 0)
    assert all(storage.answer(job_id, "q") for job_id in ended)
    assert storage.holdings("n.1", ["q"]) == held
    assert rig.settle(*map(ack, held)) == [True] * 10
    while leases := rig.lease(64):
        rig.settle(*map(ack, leases))
        ended |= set(ids(leases))
    assert len(ended) + len(held) == 100
    assert list(storage.leftovers()) == []
    storage.close()


def test_kills_in_mid_run_lose_nothing_that_was_taken_in(server: RedisServer) -> None:
    """A producer and a worker, each repeating what it could not be sure of, through two kills."""
    run = _Run(server.url)
    threads = [threading.Thread(target=run.produce), threading.Thread(target=run.work)]
    for thread in threads:
        thread.start()
    for goal in (300, 900):
        wait_until(partial(run.has_acked, goal), "progress")
        server.kill()
        server.start()
    run.stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert run.taken_in
    assert run.taken_in - run.acked == set()


class _Run:
    def __init__(self, url: str) -> None:
        self.url = url
        self.taken_in: set[str] = set()
        self.acked: set[str] = set()
        self.stop = threading.Event()
        self.produced = threading.Event()

    def has_acked(self, goal: int) -> bool:
        return len(self.acked) > goal

    def produce(self) -> None:
        storage = RedisStorage(self.url, "shop")
        number = 0
        while not self.stop.is_set():
            jobs = [entry(f"j{number + i}", fresh=False) for i in range(5)]
            while True:
                try:
                    storage.enqueue(jobs)
                    break
                except StorageUnavailable:
                    time.sleep(0.01)
            self.taken_in.update(job.id for job in jobs)
            number += 5
        self.produced.set()

    def work(self) -> None:
        storage = RedisStorage(self.url, "shop")
        outcomes: list[Outcome] = []
        lost = True
        while True:
            try:
                if lost:
                    storage.register(Node("n"), ["q"], 60)
                    storage.settle("n.1", outcomes)
                    self.acked.update(one.id for one in outcomes)
                    outcomes = [ack(lease) for lease in storage.holdings("n.1", ["q"])]
                    lost = False
                last = self.produced.is_set()
                settled = storage.turn("n.1", outcomes, ["q"], 16)
                assert all(settled.settled)
                self.acked.update(one.id for one in outcomes)
                if not settled.leases and last:
                    return
                outcomes = [ack(lease) for lease in settled.leases]
            except (StorageUnavailable, NodeExpired):
                lost = True
                time.sleep(0.01)


def test_a_sleeping_worker_notices_that_the_server_went_and_is_woken_after(
    server: RedisServer,
) -> None:
    storage = RedisStorage(server.url, "shop")
    rig = Rig(storage)
    bell = storage.bell("n.1", ["q"])
    bell.arm()
    assert storage.turn("n.1", (), ["q"], 1, idle=True).leases == []
    server.kill()
    with pytest.raises(StorageUnavailable):
        bell.answer()
    server.start()
    assert storage.holdings("n.1", ["q"]) == []
    bell.arm()
    assert storage.turn("n.1", (), ["q"], 1, idle=True).leases == []
    rig.put("a")
    assert ids(rung(bell)) == ["a"]
    storage.close()


def test_a_caller_that_waits_hears_of_the_kill_and_can_wait_on(server: RedisServer) -> None:
    rig = Rig(RedisStorage(server.url, "shop"))
    rig.put("a")
    waiting = RedisStorage(server.url, "shop")
    threading.Timer(0.1, server.kill).start()
    with pytest.raises(StorageUnavailable):
        waiting.wait([("a", "q")], 30)
    server.start()
    threading.Timer(0.1, lambda: rig.settle(*map(ack, rig.lease()))).start()
    while waiting.answer("a", "q") is None:
        waiting.wait([("a", "q")], 5)
    waiting.close()


def test_a_storage_that_came_back_empty_has_another_epoch(server: RedisServer) -> None:
    storage = RedisStorage(server.url, "shop")
    rig = Rig(storage)
    rig.put("a", "b")
    [lease] = rig.lease()
    epoch = storage.epoch()
    assert storage.epoch() == epoch
    server.client().flushall()
    assert storage.epoch() != epoch
    assert storage.heartbeat("n", ["q"], 10) is False
    assert rig.settle(ack(lease)) == [False]
    with pytest.raises(NodeExpired):
        rig.lease()
    rig.register("n")
    rig.put("a")
    [again] = rig.lease()
    assert again.token > lease.token
    assert [row.name for row in storage.queues()] == ["q"]
    storage.close()


# -- durability --------------------------------------------------------------------------------


def test_local_durability_is_what_a_kill_cannot_take(server: RedisServer) -> None:
    storage = RedisStorage(server.url, "shop", durability="local")
    storage.ping()
    storage.enqueue([entry(f"j{number}") for number in range(3000)])
    storage.fire("t@5", [entry("tick")])
    assert storage.enqueue([entry("j0", fresh=False)]) == [False]
    server.kill()
    server.start()
    assert storage.queues()[0].queued == 3001
    storage.close()


@pytest.mark.parametrize("kind", KINDS)
def test_local_durability_is_refused_where_nothing_is_on_disk(kind: str) -> None:
    with RedisServer(available_servers()[kind]) as server:
        storage = RedisStorage(server.url, "shop", durability="local")
        for call in (storage.ping, lambda: storage.enqueue([entry("a")])):
            with pytest.raises(StorageRefused, match="appendonly yes"):
                call()
        assert storage.queues() == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_append_only_file_that_lags_is_waited_for_or_refused(kind: str, tmp_path: Path) -> None:
    with RedisServer(available_servers()[kind], tmp_path, appendfsync="everysec") as server:
        storage = RedisStorage(server.url, "shop", durability="local")
        if kind == "valkey":
            assert storage.enqueue([entry("a")]) == [True]
        else:
            with pytest.raises(StorageRefused, match="appendfsync always"):
                storage.enqueue([entry("a")])


@pytest.mark.parametrize("kind", KINDS)
def test_replica_durability_needs_a_replica(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskqd.storage.redis.keyspace.durable.WAIT_MS", 50)
    binary = available_servers()[kind]
    master = RedisServer(binary, port=free_port(), repl_diskless_sync_delay=0)
    with master as server, RedisServer(binary) as other:
        storage = RedisStorage(server.url, "shop", durability="replica")
        assert any("no replica" in warning for warning in storage.warnings())
        with pytest.raises(OutcomeUnknown, match="replica"):
            storage.enqueue([entry("a")])
        for _ in range(2):  # the repeat finds the tick, and knows as little of its fate
            with pytest.raises(OutcomeUnknown, match="replica"):
                storage.fire("sweep@1000", [entry("t")])
        other.client().replicaof("127.0.0.1", server.port)
        monkeypatch.setattr("taskqd.storage.redis.keyspace.durable.WAIT_MS", 4000)
        wait_until(lambda: server.client().info("replication")["connected_slaves"] == 1, "replica")
        repeated = entry("a", fresh=False)
        assert wait_until(lambda: _confirmed(storage, repeated), "confirmation") == [False]
        assert storage.enqueue([entry("b")]) == [True]
        assert not storage.fire("sweep@1000", [entry("t")])
        assert other.client().hlen("{shop:q}:jobs") == 3
        assert any("min-replicas" in warning for warning in storage.warnings())


def _confirmed(storage: RedisStorage, job: object) -> list[bool] | None:
    try:
        return storage.enqueue([job])  # type: ignore[list-item]
    except OutcomeUnknown:
        return None


Written = Callable[[RedisStorage, Lease], object]
ACKNOWLEDGED: dict[str, Written] = {
    "group_open": lambda s, _: s.group_open("g", "q", 2, entry("callback"), 60),
    "group_put": lambda s, _: s.group_put("open", "q", 0, b"1"),
    "conclude": lambda s, _: s.conclude("later", "q", b"{}", 60),
    "cancel": lambda s, _: s.cancel("waiting", "q", b"{}", 60),
    "reschedule": lambda s, _: s.reschedule("waiting", "q", 0),
    "revive": lambda s, _: s.revive(["dead"]),
    "stop": lambda s, lease: s.stop(lease.id, "q", b"{}", 60),
    "revoke": lambda s, _: s.revoke("task:x", Revocation(), 60),
    "restore": lambda s, _: s.restore("task:kept"),
    "relabel": lambda s, _: s.relabel("q", ["parked"], ""),
    "pause": lambda s, _: s.pause("q"),
    "resume": lambda s, _: s.resume("q"),
    "schedule_put": lambda s, _: s.schedule_put("made", b"{}"),
    "schedule_drop": lambda s, _: s.schedule_drop("made before"),
}
"""What is acknowledged to a caller, or counted once; see the table in docs/redis.md."""


@pytest.mark.parametrize("name", ACKNOWLEDGED)
def test_what_was_acknowledged_was_lost_with_the_server_although_a_replica_was_asked_for(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = RedisStorage(server.url, "shop")
    rig = Rig(plain)
    rig.put("dead", "parked", "held", "waiting")
    dead, parked, held = rig.lease(3)
    rig.settle(
        outcome(dead, "bury", reason="failed"),
        outcome(parked, "bury", reason="unknown", parked="label"),
    )
    plain.group_open("open", "q", 2, None, 60)
    plain.revoke("task:kept", Revocation(), 60)
    plain.schedule_put("made before", b"{}")
    monkeypatch.setattr(durable, "WAIT_MS", 50)
    storage = RedisStorage(server.url, "shop", durability="replica")
    for _ in range(2):  # a repeat that has nothing to write is no more certain
        with pytest.raises(OutcomeUnknown, match="not confirmed"):
            ACKNOWLEDGED[name](storage, held)
    for one in (plain, storage):
        one.close()


def test_every_call_that_is_acknowledged_is_in_the_table_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    assert [name for name in ACKNOWLEDGED if f"`{name}`" not in text] == []

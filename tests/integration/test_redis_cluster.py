"""A cluster: slots that move under load, a server that dies, queues on several servers."""

from __future__ import annotations

import itertools
import select
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from taskqd.errors import OutcomeUnknown, StorageError, StorageRefused, StorageUnavailable
from taskqd.jobs.job import State
from taskqd.settings import Durability
from taskqd.storage import namespaces
from taskqd.storage.redis import RedisStorage
from taskqd.storage.redis.keyspace import durable
from taskqd.storage.redis.link import cluster
from tests.support.rigs.rig import Rig, ack, entry, ids
from tests.support.rigs.ring import rung
from tests.support.servers.redis_cluster import RedisCluster
from tests.support.servers.redis_server import RedisServer, available_servers
from tests.support.waiting import HANG_S, wait_until

_numbers = itertools.count()
KINDS = sorted(available_servers())


@pytest.fixture(scope="module", params=KINDS)
def three(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    with RedisCluster(available_servers()[request.param], appendfsync="everysec") as running:
        yield running


@pytest.fixture
def storage(three: RedisCluster) -> Iterator[RedisStorage]:
    opened = RedisStorage(three.url, f"c{next(_numbers)}", durability="memory")
    yield opened
    opened.close()


def _spread(three: RedisCluster, storage: RedisStorage) -> list[str]:
    """Return one queue on each server."""
    return [three.queue_at(server, storage.namespace) for server in three.servers]


def _elsewhere(three: RedisCluster, storage: RedisStorage, queue: str) -> RedisServer:
    here = three.owner(storage.at(queue).jobs)
    return next(server for server in three.servers if server is not here)


def test_a_script_in_a_slot_that_moves_does_all_or_nothing(
    three: RedisCluster, storage: RedisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the queue's keys are on another server: it would pop a job and fail to hold it."""
    rig = Rig(storage)
    names = [f"j{number}" for number in range(9)]
    rig.put(*names)
    [held] = rig.lease()
    move = three.move(storage.at("q").jobs, _elsewhere(three, storage, "q"))
    monkeypatch.setattr(cluster, "CALL_S", 0.02)
    while True:
        for call in (
            lambda: rig.lease(worker="n.2"),
            lambda: rig.settle(ack(held)),
            lambda: rig.put("new", fresh=False),
            lambda: storage.recover_worker("n.1", ["q"], running=[], how="released"),
        ):
            with pytest.raises(StorageUnavailable, match="TRYAGAIN"):
                call()
        if not move.carry(1):
            break
    move.finish()
    assert rig.states() == {name: "running" if name == "j0" else "queued" for name in names}
    assert rig.settle(ack(held)) == [True]
    assert ids(rig.lease(9)) == names[1:]
    assert list(storage.leftovers()) == []


class Load:
    """Producers and workers that go on whatever the storage says."""

    def __init__(
        self, storage: RedisStorage, url: str, queue: str, durability: Durability = "memory"
    ) -> None:
        self.put: list[str] = []
        self.done: list[str] = []
        self.failures: list[StorageError] = []
        self._open = lambda: RedisStorage(url, storage.namespace, durability=durability)
        self._queue = queue
        self._enough, self._over = threading.Event(), threading.Event()
        Rig(storage, [queue])
        self._threads = [threading.Thread(target=body) for body in (self._produce, self._work)]
        for thread in self._threads:
            thread.start()

    def _produce(self) -> None:
        storage = self._open()
        for number in itertools.count():
            if self._enough.is_set():
                break
            job = entry(f"j{number}", self._queue, fresh=False)
            while not self._tried(lambda job=job: storage.enqueue([job])):
                pass
            self.put.append(job.id)
        storage.close()

    def _work(self) -> None:
        storage = self._open()
        while not (self._over.is_set() and not self._left()):
            leases = self._tried(lambda: storage.lease("n.1", [self._queue], 5).leases) or []
            ends = [ack(lease) for lease in leases]
            while ends and not (told := self._tried(lambda ends=ends: storage.settle("n.1", ends))):
                pass
            self.done += [
                end.id for end, took in zip(ends, told if ends else [], strict=True) if took
            ]
        storage.close()

    def _left(self) -> bool:
        """Whether jobs may be left that a worker would get; those lost to sight are not waited for."""
        return len(self.done) < len(self.put) and not self.failures

    def _tried(self, call):  # type: ignore[no-untyped-def]
        try:
            return call()
        except StorageError as error:
            self.failures.append(error)
            time.sleep(0.01)
            return None

    def end(self) -> None:
        """End the producer, then the worker, which does what is left."""
        for over, thread in zip((self._enough, self._over), self._threads, strict=True):
            over.set()
            thread.join(HANG_S)
            assert not thread.is_alive()


def test_slots_that_move_under_load_lose_nothing_and_nobody_notices(
    three: RedisCluster, storage: RedisStorage
) -> None:
    load = Load(storage, three.url, "q")
    for _ in range(3):
        count = len(load.done)
        wait_until(lambda count=count: len(load.done) > count + 20)
        three.move(storage.at("q").jobs, _elsewhere(three, storage, "q")).finish()
    count = len(load.done)
    wait_until(lambda: len(load.done) > count + 20)
    load.end()
    assert load.failures == []
    assert load.done == load.put
    assert list(storage.leftovers()) == []


def test_an_idle_worker_hears_of_every_queue_on_whichever_server(
    three: RedisCluster, storage: RedisStorage
) -> None:
    rig = Rig(storage, _spread(three, storage))
    other = RedisStorage(three.url, storage.namespace)
    bell = storage.bell("n.1", rig.queues)
    for number, queue in enumerate([*rig.queues, *rig.queues]):
        bell.arm()
        assert rig.lease(idle=True) == []
        other.enqueue([entry(f"j{number}", queue)])
        [lease] = rung(bell)
        assert rig.settle(ack(lease)) == [True]
    bell.close()
    other.close()
    assert list(storage.leftovers()) == []


def test_jobs_of_several_queues_at_once_reach_an_idle_worker(
    three: RedisCluster, storage: RedisStorage
) -> None:
    rig = Rig(storage, _spread(three, storage))
    bell = storage.bell("n.1", rig.queues)
    bell.arm()
    assert rig.lease(idle=True) == []
    storage.enqueue([entry(f"j{number}", queue) for number, queue in enumerate(rig.queues)])
    got = []
    while len(got) < 3:
        got += rung(bell)
    assert sorted(ids(got)) == ["j0", "j1", "j2"]
    assert rig.settle(*map(ack, got)) == [True] * 3
    bell.close()


def test_an_idle_worker_whose_slot_moved_is_told_and_wakes_again(
    three: RedisCluster, storage: RedisStorage
) -> None:
    rig = Rig(storage)
    bell = storage.bell("n.1", ["q"])
    bell.arm()
    assert rig.lease(idle=True) == []
    three.move(storage.at("q").jobs, _elsewhere(three, storage, "q")).finish()
    assert select.select([bell.fileno()], [], [], HANG_S)[0]
    with pytest.raises(StorageUnavailable, match="MOVED"):
        bell.answer()
    assert storage.holdings("n.1", ["q"]) == []
    bell.arm()
    assert rig.lease(idle=True) == []
    rig.put("a")
    assert ids(rung(bell)) == ["a"]
    bell.close()


def test_a_caller_waits_for_answers_on_several_servers(
    three: RedisCluster, storage: RedisStorage
) -> None:
    rig = Rig(storage, _spread(three, storage))
    caller = RedisStorage(three.url, storage.namespace)
    jobs = [(f"j{number}", queue) for number, queue in enumerate(rig.queues)]
    storage.enqueue([entry(*job) for job in jobs])
    left = dict(jobs)
    for lease in rig.lease(3):
        settling = threading.Timer(0.05, rig.settle, [ack(lease)])
        settling.start()
        began_s = time.monotonic()
        while caller.answer(lease.id, lease.queue) is None:
            caller.wait(list(left.items()), 10)
        assert time.monotonic() - began_s < 4, "it slept through the end of the job"
        settling.join()
        del left[lease.id]
    assert caller.answers([(job_id, None) for job_id, _ in jobs]).count(None) == 0
    caller.close()
    storage.purge(rig.queues, dead_ttl_s=60, dead_max=9)
    assert list(storage.leftovers()) == []


def test_a_job_is_found_on_whichever_server_it_is(
    three: RedisCluster, storage: RedisStorage
) -> None:
    queues = _spread(three, storage)
    for number, queue in enumerate(queues):
        storage.enqueue([entry(f"j{number}", queue)])
    assert [storage.job(f"j{n}").queue for n in range(3)] == queues  # type: ignore[union-attr]
    assert sorted(row.id for row in storage.jobs(State.QUEUED)) == ["j0", "j1", "j2"]
    assert storage.namespace in namespaces(three.url)
    assert storage.cancel("j1", None, b"", 0)
    assert {row.name for row in storage.queues()} == {queues[0], queues[2]}


def test_the_death_of_a_server_is_waited_out_and_the_others_hear_heartbeats(
    three: RedisCluster, storage: RedisStorage
) -> None:
    queue = three.queue_at(three.servers[2], storage.namespace)
    other = three.queue_at(three.servers[0], storage.namespace)
    rig = Rig(storage, [queue, other])
    rig.register("n", lease_s=30)
    rig.put("a", queue=queue)
    rig.put("b", queue=other)
    three.servers[2].kill()
    with pytest.raises(StorageUnavailable):
        storage.heartbeat("n", [queue, other], 600)
    with three.servers[0].client() as client:
        [(_, ends_ms)] = client.zrange(storage.at(other).nodes, 0, -1, withscores=True)
    assert ends_ms / 1000 > time.time() + 300
    with pytest.raises(StorageUnavailable):
        rig.put("c", queue=queue, fresh=False)
    with pytest.raises(StorageUnavailable, match="refused"):
        rig.put("c", queue=queue, fresh=False)

    def told() -> bool:
        """The others notice too, and stop serving."""
        try:
            rig.put("d", queue=other, fresh=False)
        except StorageUnavailable as error:
            return "CLUSTERDOWN" in str(error)
        return False

    wait_until(told)
    three.servers[2].start()
    three.wait_ok()
    wait_until(lambda: _serves(storage))
    assert rig.put("c", queue=queue, fresh=False) == [True]
    assert {"a", "b", "c"} <= set(ids(rig.lease(9)))


def test_a_queue_is_served_while_the_server_with_the_list_of_queues_is_away() -> None:
    binary = available_servers()["redis"]
    with RedisCluster(binary, cluster_require_full_coverage="no") as cluster_:
        storage = RedisStorage(cluster_.url, "shop")
        listing = cluster_.owner(storage.at("").jobs)
        other = next(server for server in cluster_.servers if server is not listing)
        queue, gone = cluster_.queue_at(other, "shop"), cluster_.queue_at(listing, "shop")
        rig = Rig(storage, [queue])
        assert rig.put("before", queue=queue) == [True]
        assert storage.parts([queue, gone]) == [[queue], [gone]]
        listing.kill()
        with pytest.raises(StorageUnavailable):
            rig.put("lost", queue=gone, fresh=False)
        # Its connection is opened anew, which has it announce its queues again.
        storage._link.server_of(storage.at(queue).jobs).close()
        assert rig.put("after", queue=queue, fresh=False) == [True]
        assert ids(rig.lease(9)) == ["before", "after"]
        storage.close()


def test_a_failover_loses_no_job_that_was_written_to_the_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(durable, "WAIT_MS", 300)
    with RedisCluster(available_servers()["redis"], repl_diskless_sync_delay=0) as cluster_:
        replica = cluster_.add_replica(cluster_.servers[2])
        storage = RedisStorage(cluster_.url, "shop", durability="replica")
        queue = cluster_.queue_at(cluster_.servers[2], "shop")
        rig = Rig(storage, [queue])
        load = Load(storage, cluster_.url, queue, durability="replica")
        wait_until(lambda: len(load.done) > 50)
        cluster_.servers[2].kill()
        _take_over(replica)
        cluster_.servers[2].start()  # as a replica of the other
        count = len(load.put)
        wait_until(lambda: len(load.put) > count + 50)
        load.end()
        assert load.failures
        assert {type(error) for error in load.failures} <= {StorageUnavailable, OutcomeUnknown}
        # What was leased or settled in the last moment may be unknown to the replica: it runs again.
        for lease in storage.holdings("n.1", [queue]):
            assert rig.settle(ack(lease)) == [True]
            load.done.append(lease.id)
        while leases := rig.lease(9, worker="n.2"):
            load.done += ids(leases)
            assert rig.settle(*map(ack, leases), worker="n.2") == [True] * len(leases)
        assert set(load.done) >= set(load.put)
        assert list(storage.leftovers()) == []
        storage.close()


def _take_over(replica: RedisServer) -> None:
    """Make a replica the master without a vote, which takes long on a loaded machine."""
    with replica.client() as client:
        client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: client.info("replication")["role"] == "master")


def _left_for_its_replica(storage: RedisStorage, look: Callable[[], object]) -> None:
    """Repeat a call until it is served, and nothing else that could repair the map."""

    def served() -> bool:
        try:
            look()
        except StorageUnavailable:
            return False
        return True

    wait_until(served, f"{storage.namespace} to be served by the replica")


def test_a_server_that_is_killed_and_not_restarted_is_left_for_its_replica() -> None:
    """Each kind of call finds the new master by itself, also those that ask a server for no key."""
    with RedisCluster(available_servers()["redis"], repl_diskless_sync_delay=0) as cluster_:
        replica = cluster_.add_replica(cluster_.servers[2])
        names = ("holdings", "recover", "turn", "nodes", "heartbeat", "promote", "queues")
        storages = [RedisStorage(cluster_.url, "shop") for _ in names]
        queues = [cluster_.queue_at(server, "shop") for server in cluster_.servers]
        rig = Rig(storages[0], queues)
        rig.put("kept", queue=queues[2])
        [lease] = rig.lease(worker="n.1")
        calls: dict[str, Callable[[RedisStorage], object]] = {
            "holdings": lambda one: one.holdings("n.1", queues),
            "recover": lambda one: one.recover(queues, spare="n"),
            "turn": lambda one: one.turn("n.2", (), queues, 1),
            "nodes": lambda one: one.nodes(),
            "heartbeat": lambda one: one.heartbeat("n", queues, 600),
            "promote": lambda one: one.promote(queues),
            "queues": lambda one: one.queues(),
        }
        for name, storage in zip(names, storages, strict=True):
            calls[name](storage)
        with cluster_.servers[2].client() as client:
            assert client.wait(1, round(HANG_S * 1000)) == 1, "the replica has all of it"
        cluster_.servers[2].kill()
        _take_over(replica)
        for name, storage in zip(names, storages, strict=True):
            _left_for_its_replica(storage, partial(calls[name], storage))
        assert ids(storages[0].holdings("n.1", queues)) == ["kept"]
        assert rig.settle(ack(lease)) == [True]
        for storage in storages:
            storage.close()


def test_the_permissions_of_the_documentation_suffice_for_a_cluster(three: RedisCluster) -> None:
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("ACL SETUSER shop")]
    for server in three.servers:
        with server.client() as client:
            client.execute_command(*line.split(" "), "+cluster|slots", "+asking")
    storage = RedisStorage(three.url.replace("//", "//shop:SECRET@", 1), "shop")
    rig = Rig(storage, _spread(three, storage))
    for queue in rig.queues:
        rig.put(f"j-{queue}", queue=queue)
    assert rig.settle(*map(ack, rig.lease(9))) == [True] * 3
    storage.ping()
    assert list(storage.leftovers()) == []
    storage.close()
    with pytest.raises(StorageRefused, match="NOPERM"):
        RedisStorage(three.url.replace("//", "//shop:SECRET@", 1), "other").enqueue([entry("a")])


def _serves(storage: RedisStorage) -> bool:
    try:
        storage.ping()
    except StorageUnavailable:
        return False
    return True

"""A server at its maxmemory refuses new jobs, and everything that is in can still be worked on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskqd.clock import now_ms
from taskqd.errors import QueueFull
from taskqd.jobs.job import Marks
from taskqd.storage.base import Node
from taskqd.storage.features import LeaseKey, Revocation
from taskqd.storage.redis import RedisStorage
from tests.support.rigs.rig import Rig, ack, done, entry, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.redis_server import RedisServer, servers

server = servers()


@pytest.fixture
def rig(server: RedisServer) -> Iterator[Rig]:
    """A rig with jobs in every state, on a server that has just become full."""
    client = server.client()
    client.flushall()
    storage = RedisStorage(server.url, "shop")
    rig = Rig(storage)
    rig.put(*(f"j{number}" for number in range(20)))
    rig.put("late", run_at_ms=now_ms() + 60_000)
    # One byte: whatever the server frees meanwhile, it stays over the limit.
    client.config_set("maxmemory", 1)
    yield rig
    client.config_set("maxmemory", 0)
    storage.close()


def test_new_jobs_are_refused_and_nothing_of_them_is_written(rig: Rig) -> None:
    for jobs in ([entry("new")], [entry("new", fresh=False)], [entry("new", priority=3)]):
        with pytest.raises(QueueFull, match="maxmemory"):
            rig.storage.enqueue(jobs)
    with pytest.raises(QueueFull):
        rig.put("new", run_at_ms=now_ms() + 60_000)
    with pytest.raises(QueueFull):
        rig.storage.fire("sweep@1000", [entry("new")])
    assert rig.storage.job("new") is None
    assert rig.storage.last_tick("sweep") is None
    assert rig.counts() == (20, 1, 0, 0)


def test_what_is_in_runs_to_its_end(rig: Rig) -> None:
    rig.storage.ping()
    leases = rig.lease(8)
    ends = [ack(leases[0]), ack(leases[1]), outcome(leases[2], "retry", delay_ms=60_000),
            outcome(leases[3], "retry", marks=Marks(1, 1)), outcome(leases[4], "requeue"),
            outcome(leases[5], "bury", answer=done(leases[5].token), reason="failed")]  # fmt: skip
    assert rig.settle(*ends) == [True] * 6
    given = [(lease.id, lease.queue, lease.token) for lease in leases[6:]]
    assert rig.storage.release("n.1", given) == [True, True]
    assert rig.counts() == (16, 2, 0, 1)
    assert rig.storage.answer("j0", "q") is not None
    while leases := rig.lease(5):
        assert rig.settle(*map(ack, leases)) == [True] * len(leases)
    assert rig.counts() == (0, 2, 0, 1)


def test_a_daemon_can_start_beat_recover_and_retire(rig: Rig, server: RedisServer) -> None:
    storage = RedisStorage(server.url, "shop")
    storage.register(Node("new"), ["q"], 60)
    assert storage.heartbeat("new", ["q"], 60)
    leases = storage.lease("new.1", ["q"], 3).leases
    rows = storage.recover_worker(
        "new.1", ["q"], running=[leases[0].token], how="orphaned", verdict="signal 9"
    )
    assert [row.how for row in rows] == ["orphaned", "released", "released"]
    assert len(storage.lease("new.2", ["q"], 3).leases) == 3
    assert len(storage.recover_node("new", ["q"])) == 3
    storage.register(Node("new"), ["q"], 60)
    storage.retire("new", ["q"])
    assert len(storage.epoch()) == 32
    storage.close()


def test_groups_are_refused_and_all_other_features_go_on(rig: Rig) -> None:
    storage = rig.storage
    with pytest.raises(QueueFull, match="maxmemory"):
        storage.group_open("g", "q", 0, entry("new"), 300)
    assert storage.group_left("g", "q") == -1
    assert storage.job("new") is None
    [lease] = rig.lease()
    assert storage.note(LeaseKey("n.1", lease.id, "q", lease.token), "k", b"v") == "kept"
    assert storage.stop(lease.id, "q", done(0, "cancelled"), 300)
    storage.revoke("task:x", Revocation(), 300)
    assert storage.restore("task:x")
    assert storage.lock("l", "n.1#1")
    assert storage.lock("l", "n.2#1", waiter=("q", "late")) is None
    assert storage.unlock("l", "n.1#1")
    assert "late" in ids(rig.lease(100, worker="n.2")), "the release called it forward"
    assert storage.take("k", 1, 60_000, "a") == 0
    assert storage.take("k", 1, 60_000, "b") > 0
    assert storage.conclude("never", "q", done(0), 300)
    storage.schedule_put("s", b"data")
    assert storage.schedule_drop("s")
    assert storage.recover_worker("n.1", ["q"], running=[lease.token], how="timeout") == []
    assert list(storage.leftovers()) == []


def test_a_member_of_a_group_that_ends_enqueues_the_callback(rig: Rig, server: RedisServer) -> None:
    client = server.client()
    client.config_set("maxmemory", 0)
    assert rig.storage.group_open("g", "q", 1, entry("callback", priority=9), 300)
    client.config_set("maxmemory", 1)
    assert rig.storage.group_put("g", "q", 0, done(1)) == 0
    assert ids(rig.lease()) == ["callback"]


def test_an_operator_can_clean_up(rig: Rig) -> None:
    assert rig.storage.cancel("j3", "q", done(0), 300)
    assert rig.storage.reschedule("late", "q", 0)
    assert rig.storage.reschedule("j4", "q", now_ms() + 60_000)
    rig.storage.promote(["q"])
    [lease] = rig.lease()
    rig.settle(outcome(lease, "bury", reason="failed"))
    assert rig.storage.revive([lease.id]) == 1
    rig.storage.resume("q")
    assert rig.storage.purge_queue("q") == 20
    assert rig.storage.purge(["q"], dead_ttl_s=0, dead_max=0) == 0
    assert list(rig.storage.leftovers()) == []


def test_idle_workers_are_woken_by_what_comes_back(rig: Rig, server: RedisServer) -> None:
    leases = rig.lease(100)
    storage = RedisStorage(server.url, "shop")
    bell = storage.bell("n.2", ["q"])
    bell.arm()
    assert storage.turn("n.2", (), ["q"], 1, idle=True).leases == []
    rig.storage.release("n.1", [(leases[0].id, "q", leases[0].token)])
    assert ids(rung(bell)) == [leases[0].id]
    storage.close()


def test_room_made_is_room_for_new_jobs(rig: Rig, server: RedisServer) -> None:
    with pytest.raises(QueueFull):
        rig.put("new")
    server.client().config_set("maxmemory", 0)
    assert rig.put("new") == [True]

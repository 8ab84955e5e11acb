"""What is kept, where, and for how long: buckets, ghosts, leaks, slots of a cluster, pages."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from taskqd.clock import now_ms
from taskqd.errors import StorageRefused
from taskqd.ids import new_id
from taskqd.jobs.job import Marks, State
from taskqd.storage.base import Storage
from taskqd.storage.features import LeaseKey, Revocation
from taskqd.storage.redis import RedisStorage
from tests.support.rigs.rig import Rig, ack, done, entry, ids, outcome
from tests.support.rigs.ring import rung
from tests.support.servers.redis_server import RedisServer, available_servers, servers
from tests.support.waiting import wait_until

KINDS = sorted(available_servers())


server = servers()


@pytest.fixture
def client(server: RedisServer) -> Any:
    client = server.client()
    client.flushall()
    return client


@pytest.fixture
def rig(server: RedisServer, client: Any) -> Iterator[Rig]:
    storage: Storage = RedisStorage(server.url, "shop")
    yield Rig(storage)
    storage.close()


# -- answers -----------------------------------------------------------------------------------


def test_answers_of_neighbours_share_a_key_with_the_longest_lifetime(rig: Rig, client: Any) -> None:
    rig.put("abc1", "abc2", "abd1")
    leases = {lease.id: lease for lease in rig.lease(3)}
    rig.settle(ack(leases["abc1"], answer_ttl_s=1000), ack(leases["abd1"], answer_ttl_s=20))
    rig.settle(ack(leases["abc2"], answer_ttl_s=10))
    assert sorted(client.keys("*:r:*")) == [b"{shop:q}:r:abc", b"{shop:q}:r:abd"]
    assert client.hkeys("{shop:q}:r:abc") == [b"1", b"2"]
    assert 900 < client.ttl("{shop:q}:r:abc") <= 1000
    assert 10 < client.ttl("{shop:q}:r:abd") <= 20


def test_a_drained_queue_leaves_answers_with_a_lifetime_and_little_else(
    rig: Rig, client: Any
) -> None:
    names = [new_id() for _ in range(500)]
    rig.put(*names)
    while leases := rig.lease(64):
        rig.settle(*map(ack, leases))
    rig.storage.retire("n", ["q"])
    lasting = sorted(key for key in client.keys("*") if client.ttl(key) < 0)
    assert lasting == [b"{shop:q}:seq", b"{shop}:queues"]
    assert len(client.keys("*:r:*")) <= 500 // 16 + 2


# -- stale entries -----------------------------------------------------------------------------


def test_cancelling_in_a_long_queue_does_not_search_it(rig: Rig, client: Any) -> None:
    rig.put(*(f"j{number:05}" for number in range(3000)))
    for number in range(1000, 2000):
        assert rig.storage.cancel(f"j{number:05}", "q", b"", 0)
    assert client.llen("{shop:q}:ready") == 3000
    assert rig.counts() == (2000, 0, 0, 0)
    left = [f"j{number:05}" for number in (*range(1000), *range(2000, 3000))]
    assert [row.id for row in rig.storage.jobs(State.QUEUED)] == left
    assert rig.order(3000) == left
    assert client.exists("{shop:q}:ghosts") == 0


def test_a_cancelled_id_that_comes_again_runs_once(rig: Rig, client: Any) -> None:
    rig.put("x", "a", "b")
    assert rig.storage.cancel("a", "q", b"", 0)
    assert rig.put("a", fresh=False) == [True]
    assert rig.storage.cancel("a", "q", b"", 0)
    assert rig.put("a", fresh=False) == [True]
    assert rig.counts() == (3, 0, 0, 0)
    assert list(rig.storage.leftovers()) == []
    assert ids(rig.lease(10)) == ["x", "b", "a"]
    assert client.exists("{shop:q}:ghosts", "{shop:q}:ready") == 0


def test_a_stale_entry_in_another_lane_costs_no_job(rig: Rig) -> None:
    rig.put("a", priority=1)
    assert rig.storage.cancel("a", "q", b"", 0)
    assert rig.put("a", "b", fresh=False) == [True, True]
    assert sorted(ids(rig.lease(10))) == ["a", "b"]
    assert rig.lease(10) == []


def test_stale_entries_are_no_part_of_a_share_and_go_with_the_next_turn(
    rig: Rig, client: Any
) -> None:
    rig.put("a", "b", "c", "d")
    for job_id in ("a", "c"):
        assert rig.storage.cancel(job_id, "q", b"", 0)
    turn = rig.storage.turn("n.1", (), ["q"], 10, share=2)
    assert (ids(turn), turn.ready) == (["b"], 1)
    assert rig.storage.cancel("d", "q", b"", 0)
    assert rig.lease(10) == []
    assert client.exists("{shop:q}:ghosts", "{shop:q}:ready") == 0


def test_a_rescheduled_job_is_where_it_was_sent(rig: Rig) -> None:
    rig.put("a", "b", "c")
    assert rig.storage.reschedule("a", "q", now_ms() + 60_000)
    assert rig.states() == {"a": "scheduled", "b": "queued", "c": "queued"}
    assert rig.storage.reschedule("a", "q", 0)
    assert rig.storage.reschedule("b", "q", 0)
    assert rig.order() == ["c", "a", "b"]
    assert list(rig.storage.leftovers()) == []


# -- records -----------------------------------------------------------------------------------


def test_marks_with_any_text_survive_a_recovery(rig: Rig) -> None:
    said = 'Käse: "a/b"\\ \u2028 ☃ ' + "x" * 400
    rig.put("a")
    [lease] = rig.lease()
    rig.settle(outcome(lease, "retry", marks=Marks(2**31, 7, 1, 0, said)))
    [lease] = rig.lease()
    [row] = rig.storage.recover_worker("n.1", ["q"], running=[lease.token], how="interrupted")
    assert row.marks == Marks(2**31 + 1, 7, 2, 0, said)
    [lease] = rig.lease(worker="n.2")
    [row] = rig.storage.recover_worker(
        "n.2", ["q"], running=[lease.token], how="orphaned", verdict="§ \n 9"
    )
    assert row.marks == Marks(2**31 + 2, 7, 2, 1, "§ \n 9")


def test_ids_of_every_shape_work(rig: Rig) -> None:
    names = ["x", "a.b:c@d/e+f-g_h", "0" * 64, "12345"]
    rig.put(*names, fresh=False)
    leases = rig.lease(10)
    assert ids(leases) == names
    assert rig.settle(*map(ack, leases)) == [True] * 4
    assert all(rig.storage.answers([(name, None) for name in names]))


# -- leaks -------------------------------------------------------------------------------------


def _plant_lock(client: Any, rest: str) -> None:
    client.zadd("{shop}:locks", {"l": 1})
    client.hset("{shop}:lock:l", "gone.1#1", f"7 {rest}")


def _plant_owned(client: Any) -> None:
    client.sadd("{shop}:owners", "n.1")
    client.sadd("{shop}:owned:n.1", "n.1#1\nl")


LEAKS: dict[str, tuple[Callable[[Any], object], str]] = {
    "record": (lambda c: c.hset("{shop:q}:jobs", "lost", "{}"), "neither waiting nor running"),
    "entry": (lambda c: c.rpush("{shop:q}:ready", "none"), "no record"),
    "twice": (lambda c: c.rpush("{shop:q}:ready:3", "a"), "two places"),
    "ghost": (lambda c: c.sadd("{shop:q}:ghosts", "nobody"), "no stale entry"),
    "held": (lambda c: c.hset("{shop:q}:held:gone.1", "a", "5"), "node is not known"),
    "inbox": (lambda c: c.rpush("{shop:q}:inbox:gone.1", "x"), "node is not known"),
    "crew": (lambda c: c.sadd("{shop:q}:crew:gone", "gone.1"), "node is not known"),
    "idle": (lambda c: c.rpush("{shop:q}:idle", "gone.1"), "node is not known"),
    "info": (lambda c: c.hset("{shop:q}:info", "gone", "{}"), "nodes lacks it"),
    "tomb": (lambda c: c.hset("{shop:q}:tomb", "gone", "x\n{}"), "dead lacks it"),
    "dead": (lambda c: c.zadd("{shop:q}:dead", {"gone": 1}), "tomb lacks it"),
    "waiter": (lambda c: c.hset("{shop:q}:waiters", "gone", "w"), "has ended"),
    "tick": (lambda c: c.zadd("{shop:q}:ticks", {"t@1": 1}), "lifetime is over"),
    "last": (lambda c: c.hset("{shop:q}:last", "t", "1"), "no tick"),
    "answer": (lambda c: c.hset("{shop:q}:r:x", "1", "y"), "no lifetime"),
    "mail": (lambda c: c.rpush("{shop:q}:mail:w", "y"), "no lifetime"),
    "noted": (lambda c: c.sadd("{shop:q}:noted", "gone"), "it has ended"),
    "notes": (lambda c: c.hset("{shop:q}:notes:gone", "k", "v"), "its job has ended"),
    "stop": (lambda c: c.hset("{shop:q}:stops", "gone", "1\nx"), "it has ended"),
    "unique": (lambda c: c.hset("{shop:q}:unique", "k", "gone"), "no job holds it"),
    "udone": (lambda c: c.hset("{shop:q}:udone", "gone", "k"), "it has ended"),
    "group": (lambda c: c.hset("{shop:q}:group:g", "total", "1"), "no lifetime"),
    "order": (lambda c: c.hset("{shop}:orders", "id:x", "1\n[]"), "no lifetime"),
    "old order": (lambda c: c.zadd("{shop}:orders-end", {"id:x": 1}), "lifetime is over"),
    "stranger": (lambda c: c.zadd("{shop:q}:strangers", {"x": 1}), "lifetime is over"),
    "rate": (lambda c: c.zadd("{shop}:rate:k", {"1:1": 1}), "no lifetime"),
    "lock": (lambda c: _plant_lock(c, "0 gone.1"), "node of its owner"),
    "old lock": (lambda c: _plant_lock(c, "5 "), "time of its owner is over"),
    "no lock": (lambda c: c.zadd("{shop}:locks", {"l": 1}), "nobody owns it"),
    "owned": (_plant_owned, "not locked"),
    "own": (lambda c: c.set("{shop}:what", "y"), "unknown name"),
    "own tick": (lambda c: c.zadd("{shop}:ticks", {"t@1": 1}), "lifetime is over"),
    "unknown": (lambda c: c.set("{shop:q}:what", "y"), "unknown name"),
    "queue": (lambda c: c.set("{shop:other}:seq", "1"), "queue is not known"),
}


def test_what_is_in_use_is_no_leak(rig: Rig) -> None:
    storage = rig.storage
    rig.put("a", unique="k")
    rig.put("b", unique="s", unique_until="start")
    [lease, _] = rig.lease(2)
    assert storage.note(LeaseKey("n.1", "a", "q", lease.token), "k", b"v") == "kept"
    assert storage.stop("a", "q", b"x", 300)
    storage.revoke("task:x", Revocation(), 300)
    assert storage.lock("l", "n.1#1") is not None
    assert storage.lock("l", "n.2#1", waiter=("q", "b")) is None
    assert storage.lock("m", "me", ttl_s=60) is not None
    assert storage.take("k", 1, 60_000, "a") == 0
    assert storage.take("k", 1, 60_000, "b") > 0
    assert storage.group_open("g", "q", 1, None, 300)
    storage.schedule_put("s", b"data")
    assert storage.fire("t@1", [])
    assert list(storage.leftovers()) == []


@pytest.mark.parametrize("leak", LEAKS)
def test_every_leak_is_named(rig: Rig, client: Any, leak: str) -> None:
    rig.put("a", "b")
    rig.lease(1)
    rig.put("late", run_at_ms=now_ms() + 60_000)
    assert list(rig.storage.leftovers()) == []
    plant, why = LEAKS[leak]
    plant(client)
    assert any(why in row for row in rig.storage.leftovers())


# -- features ----------------------------------------------------------------------------------


def test_who_waits_for_a_job_that_is_not_known_yet_is_told_of_its_end(
    rig: Rig, client: Any, server: RedisServer
) -> None:
    """The next job of a pipeline is waited for before it is there, and may never be."""
    for job_id in ("next", "never"):
        with waiting(server, job_id):
            wait_until(lambda job_id=job_id: client.hexists("{shop:q}:waiters", job_id))
            if job_id == "next":
                rig.end("next")
            else:
                assert rig.storage.conclude("never", "q", done(0, "dead"), 300)
            assert not client.hexists("{shop:q}:waiters", job_id)
    assert client.exists("{shop:q}:strangers") == 0


def test_who_waits_in_vain_is_forgotten(rig: Rig, client: Any, server: RedisServer) -> None:
    rig.put("known")
    other = RedisStorage(server.url, "shop")
    other.wait([("known", "q"), ("nobody", "q")], 0.01)
    assert list(rig.storage.leftovers()) == []
    client.zadd("{shop:q}:strangers", {"nobody": 1, "known": 1})
    assert any("nobody: its lifetime is over" in row for row in rig.storage.leftovers())
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert client.hkeys("{shop:q}:waiters") == [b"known"]
    assert list(rig.storage.leftovers()) == []
    other.close()


@contextlib.contextmanager
def waiting(server: RedisServer, job_id: str) -> Iterator[None]:
    """Wait for a job in a thread with its own connection, for as long as the block lasts."""

    def wait() -> None:
        storage = RedisStorage(server.url, "shop")
        storage.wait([(job_id, "q")], 60)
        storage.close()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()


def test_the_first_of_many_who_wait_for_a_lock_is_called_whatever_their_number(
    rig: Rig, client: Any
) -> None:
    features = rig.storage
    assert features.lock("l", "n.1#0")
    rig.put(*(f"j{number}" for number in range(300)), run_at_ms=4_000_000_000_000)
    for _ in range(2):
        for number in range(300):
            assert features.lock("l", f"n.1#{number + 1}", waiter=("q", f"j{number}")) is None
    assert client.zcard("{shop}:line:l") == 300
    for number in range(3):
        assert features.unlock("l", f"n.1#{number}")
        assert ids(rig.lease(5)) == [f"j{number}"]
        assert features.lock("l", f"n.1#{number + 1}", waiter=("q", f"j{number}"))


def test_a_purge_finds_the_locks_whose_time_is_over_among_all(rig: Rig, client: Any) -> None:
    features = rig.storage
    rig.put("waits", run_at_ms=4_000_000_000_000)
    features.lock("kept", "n.1#1")
    features.lock("kept", "me", slots=2, ttl_s=600)
    features.lock("short", "me", ttl_s=600)
    features.lock("short", "other", slots=2, ttl_s=0.01)
    features.lock("short", "x", slots=1, ttl_s=1, waiter=("q", "waits"))
    assert client.zscore("{shop}:locks", "short") < client.zscore("{shop}:locks", "kept")
    wait_until(lambda: len(features.locks()) == 3)
    assert ids(rig.lease(5)) == []
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert ids(rig.lease(5)) == ["waits"]
    assert client.hkeys("{shop}:lock:short") == [b"me"]
    assert list(rig.storage.leftovers()) == []


def test_a_worker_that_was_taken_back_gets_no_lock_by_what_it_sent_before(
    rig: Rig, client: Any
) -> None:
    rig.storage.lock("l", "n.1#1")
    rig.storage.recover_worker("n.1", ["q"], running=[], how="orphaned")
    assert rig.storage.lock("l", "n.1#2") is None
    assert rig.storage.lock("l", "n.2#3") is not None
    assert client.ttl("{shop}:gone:n.1") > 0
    assert list(rig.storage.leftovers()) == []


def test_the_locks_of_a_node_that_was_forgotten_halfway_are_freed_by_a_purge(
    rig: Rig, client: Any
) -> None:
    """Who recovers a node frees its locks in a second step, and may die before it."""
    features = rig.storage
    rig.register("gone")
    features.lock("l", "gone.1#1")
    features.lock("m", "n.1#1")
    client.zrem("{shop:q}:nodes", "gone")
    client.hdel("{shop:q}:info", "gone")
    assert any("node of its owner" in row for row in rig.storage.leftovers())
    rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    assert [row.name for row in features.locks()] == ["m"]
    assert list(rig.storage.leftovers()) == []


@contextmanager
def commands(client: Any) -> Iterator[list[list[bytes]]]:
    """Record all commands that the server gets, in their order."""
    found: list[list[bytes]] = []
    client.config_set("slowlog-max-len", 1000)
    client.config_set("slowlog-log-slower-than", 0)
    client.slowlog_reset()
    try:
        yield found
    finally:
        client.config_set("slowlog-log-slower-than", -1)
        rows = client.execute_command("SLOWLOG", "GET", 1000)
        found += [list(row[3]) for row in reversed(rows)]


def test_the_owners_of_locks_are_read_before_the_nodes(rig: Rig, client: Any) -> None:
    """A node that registers between the two looks would seem dead with a lock already owned."""
    rig.storage.lock("l", "n.1#1")
    with commands(client) as seen:
        rig.storage.purge(["q"], dead_ttl_s=60, dead_max=10)
    owners = seen.index([b"SMEMBERS", b"{shop}:owners"])
    nodes = seen.index([b"ZRANGE", b"{shop:q}:nodes", b"0", b"-1"])
    assert owners < nodes


def test_holdings_are_asked_for_after_an_answer(rig: Rig, client: Any) -> None:
    """What was sent over a connection that was given up is done before, not after."""
    rig.put("a")
    [lease] = rig.lease()
    with commands(client) as seen:
        assert rig.storage.holdings("n.1", ["q"]) == [lease]
    names = [command[0] for command in seen]
    assert names.index(b"PING") < names.index(b"EVALSHA")


def test_a_queue_that_was_not_told_of_an_order_hears_of_it_from_the_next_heartbeat(
    rig: Rig, client: Any
) -> None:
    """Who gives an order tells the queues in a second step, and may die before it."""
    rig.storage.revoke("task:x", Revocation(), 300)
    client.delete("{shop:q}:standing")
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations
    assert rig.storage.heartbeat("n", ["q"], 600)
    assert rig.storage.turn("n.1", (), ["q"], 1).revocations


def test_a_queue_that_is_told_of_orders_late_knows_better(rig: Rig, client: Any) -> None:
    rig.storage.revoke("task:x", Revocation(), 300)
    told = client.get("{shop:q}:standing").split(b" ")
    rig.storage.restore("task:x")
    cast("RedisStorage", rig.storage).run("flag", "q", told)
    assert not rig.storage.turn("n.1", (), ["q"], 1).revocations
    rig.storage.revoke("task:y", Revocation(), 300)
    assert rig.storage.turn("n.1", (), ["q"], 1).revocations
    assert list(rig.storage.leftovers()) == []


def test_a_rate_does_not_wait_for_a_clock_that_was_set_back(rig: Rig, client: Any) -> None:
    features = rig.storage
    ahead = now_ms() + 3_600_000
    client.zadd("{shop}:rate:k", {f"{ahead}:0": ahead, f"{ahead}:1": ahead})
    client.expire("{shop}:rate:k", 3600)
    assert 0 < features.take("k", 2, 60_000, "a") <= 63_020
    assert features.take("k", 3, 60_000, "a") == 0


def test_more_jobs_can_be_asked_to_stop_than_a_script_has_stack(rig: Rig, client: Any) -> None:
    rig.put(*(f"j{number:05}" for number in range(3)))
    rig.lease(3)
    client.hset("{shop:q}:stops", mapping={f"x{number}": "9\nx" for number in range(9000)})
    assert rig.storage.stop("j00001", "q", done(0), 30)
    assert rig.storage.turn("n.1", (), ["q"], 0).stops == ("j00001",)


# -- cost and cluster --------------------------------------------------------------------------


def test_a_turn_costs_the_same_with_few_and_with_many_waiting(rig: Rig, client: Any) -> None:
    """Counted in commands of the server, which no noise on the machine can change."""

    def commands_of_a_turn() -> int:
        before = client.info("stats")["total_commands_processed"]
        leases = rig.lease(64)
        rig.settle(*map(ack, leases))
        return int(client.info("stats")["total_commands_processed"] - before)

    rig.put(*(f"aaaaaaaaaaaaa{number:05}" for number in range(64)))
    few = commands_of_a_turn()
    names = [f"bbbbbbbbbbbbb{number:05}" for number in range(30_000)]
    rig.put(*names)
    rig.put(*(f"ccc{number}" for number in range(2000)), run_at_ms=now_ms() + 3_600_000)
    assert abs(commands_of_a_turn() - few) <= 6
    assert rig.storage.promote(["q"]).promoted == 0


def _port_for_a_cluster() -> int:
    """A cluster's second port is 10,000 above."""
    for port in range(21_000, 30_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and probe.connect_ex(
                ("127.0.0.1", port + 10_000)
            ):
                return port
    raise RuntimeError("no free port")


@pytest.mark.parametrize("kind", KINDS)
def test_every_script_stays_in_the_slot_of_its_queue(kind: str) -> None:
    """A cluster refuses a script that touches another slot."""
    binary = available_servers()[kind]
    with RedisServer(binary, port=_port_for_a_cluster(), cluster_enabled="yes") as server:
        client: Any = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        storage = RedisStorage(server.url, "shop")
        _use_everything(storage)
        storage.close()


def _use_everything(storage: RedisStorage) -> None:
    rig = Rig(storage)
    storage.ping()
    rig.put("a", "b", "c", "d", priority=3)
    rig.put("e", run_at_ms=now_ms() + 60_000)
    a, b, c = rig.lease(3)
    rig.settle(ack(a), outcome(b, "bury", reason="failed"), outcome(c, "retry"))
    assert storage.revive(["b"]) == 1
    assert storage.cancel("c", None, done(0), 30)
    assert storage.fire("x@1", [entry("t")])
    assert storage.last_tick("x") == 1
    assert len(rig.lease(9)) == 3
    bell = storage.bell("n.2", ["q"])
    bell.arm()
    assert storage.turn("n.2", (), ["q"], 1, idle=True).leases == []
    assert storage.reschedule("e", "q", 0)
    assert ids(rung(bell)) == ["e"]
    timer = storage.timer_bell(["q"])
    timer.arm()
    timer.close()
    storage.wait([("a", "q")], 1)
    assert storage.heartbeat("n", ["q"], 10)
    assert storage.recover(["q"]) == []
    assert len(storage.recover_worker("n.2", ["q"], running=[], how="released")) == 1
    assert len(storage.recover_node("n", ["q"])) == 3
    assert storage.purge(["q"], dead_ttl_s=1, dead_max=1) == 0
    storage.pause("q")
    storage.resume("q")
    _use_features(storage, rig)
    assert storage.queues()[0].queued == 4
    assert list(storage.leftovers()) == []
    assert storage.purge_queue("q") == 4
    assert storage.purge_dead() == 0


def _use_features(storage: RedisStorage, rig: Rig) -> None:
    rig.register("n")
    assert storage.group_open("g", "q", 1, entry("back", unique="k"), 300)
    assert storage.group_put("g", "q", 0, b"1") == 0
    assert storage.group_left("g", "q") == 0
    assert storage.unique_holder("q", "k") == "back"
    leases = {lease.id: lease for lease in rig.lease(9)}
    assert storage.note(LeaseKey("n.1", "back", "q", leases["back"].token), "k", b"v") == "kept"
    assert storage.notes("back") == {"k": b"v"}
    assert storage.stop("back", None, done(0, "cancelled"), 300)
    assert storage.turn("n.1", (), ["q"], 0).stops == ("back",)
    storage.revoke("task:x", Revocation(), 300)
    assert storage.revocations()
    assert storage.restore("task:x")
    assert storage.lock("l", "n.1#1") is not None
    assert storage.lock("l", "n.2#1", waiter=("q", "a")) is None
    assert storage.lock("m", "me", ttl_s=60) is not None
    assert storage.renew_lock("m", "me", 60)
    assert storage.flush_locks() == 2
    assert storage.take("k", 1, 10, "a") == 0
    assert storage.take("k", 1, 10, "b") > 0
    assert storage.conclude("never", "q", done(0), 300)
    storage.schedule_put("s", b"data")
    assert storage.schedule_drop("s")
    storage.recover_worker("n.1", ["q"], running=[], how="released")


@pytest.mark.parametrize("kind", KINDS)
def test_the_permissions_of_the_documentation_suffice(kind: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("ACL SETUSER shop")]
    with RedisServer(available_servers()[kind]) as server:
        client: Any = server.client()
        assert client.execute_command(*line.split(" "))
        storage = RedisStorage(f"unix://shop:SECRET@{server.socket}", "shop", durability="memory")
        _use_everything(storage)
        assert list(storage.jobs(State.DONE))
        storage.close()
        with pytest.raises(StorageRefused, match="NOPERM"):
            RedisStorage(f"unix://shop:SECRET@{server.socket}", "other").enqueue([entry("a")])

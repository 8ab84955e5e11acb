"""What the server refuses or loses becomes one clear error, and nothing is done twice."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from taskqd.errors import (
    ConfigError,
    OutcomeUnknown,
    StorageCorrupt,
    StorageRefused,
    StorageUnavailable,
)
from taskqd.jobs.job import State
from taskqd.storage.base import Bell, Fired
from taskqd.storage.redis import RedisStorage
from tests.support.rigs.rig import Rig, ack, entry, ids, outcome
from tests.support.servers.ports import free_port
from tests.support.servers.redis_proxy import LossyProxy
from tests.support.servers.redis_server import RedisServer, available_servers, servers
from tests.support.waiting import wait_until

SECRET = "geheim123"
NOTICED_S = 2.0
"""Who waits for a silent server notices it within so long; see docs/redis.md."""


server = servers(enable_protected_configs="yes")


@pytest.fixture
def storage(server: RedisServer) -> Iterator[RedisStorage]:
    server.client().flushall()
    opened = RedisStorage(server.url, "shop")
    yield opened
    opened.close()


@pytest.fixture
def rig(storage: RedisStorage) -> Rig:
    return Rig(storage)


# -- addresses and passwords -------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["redis://h:port/0", "rediss://h?ssl_nonsense=1", "unix:///s?max_size=3", "redis://h?db=x"],
)
def test_a_url_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="storage"):
        RedisStorage(url, "shop")


@pytest.mark.parametrize("name", ["", "a b", "a{b", "x" * 65, "a:b"])
def test_an_illegal_namespace_or_queue_is_refused(server: RedisServer, name: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        RedisStorage(server.url, name)
    storage = RedisStorage(server.url, "shop")
    with pytest.raises(ConfigError, match="queue"):
        storage.enqueue([entry("a", name)])


def test_an_unknown_durability_is_refused(server: RedisServer) -> None:
    with pytest.raises(ConfigError, match="durability 'disk'"):
        RedisStorage(server.url, "shop", durability="disk")  # type: ignore[arg-type]


def test_a_server_that_is_down_is_unavailable() -> None:
    for url in ("unix:///nowhere/socket", f"redis://127.0.0.1:{free_port()}/0"):
        storage = RedisStorage(url, "shop")
        enqueue = partial(storage.enqueue, [entry("a")])
        for call in (storage.ping, enqueue, storage.queues):
            with pytest.raises(StorageUnavailable) as caught:
                call()
            assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize("kind", sorted(available_servers()))
def test_passwords_are_used_and_never_shown(kind: str) -> None:
    port = free_port()
    with RedisServer(available_servers()[kind], port=port, requirepass=SECRET) as server:
        RedisStorage(server.url, "shop").ping()
        wrong = server.url.replace(SECRET, SECRET + "x")
        for url in (wrong, f"redis://127.0.0.1:{port}/0", f"unix://{server.socket}"):
            with pytest.raises(StorageRefused, match="password") as caught:
                RedisStorage(url, "shop").ping()
            assert SECRET not in str(caught.value)
        server.kill()
        with pytest.raises(StorageUnavailable) as lost:
            RedisStorage(server.url, "shop").ping()
        assert SECRET not in str(lost.value)


def test_a_missing_permission_is_refused(server: RedisServer) -> None:
    user = ["~{shop*", "+@read", "+@connection", "+script|load", "+evalsha"]
    client: Any = server.client()
    client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", *user)
    storage = RedisStorage(f"unix://reader:pw@{server.socket}", "shop")
    with pytest.raises(StorageRefused, match="NOPERM"):
        storage.enqueue([entry("a")])


# -- what a server may answer ------------------------------------------------------------------


def test_a_replica_is_unavailable_and_a_promoted_one_serves(server: RedisServer, rig: Rig) -> None:
    client: Any = server.client()
    client.replicaof("127.0.0.1", 1)
    try:
        for call in _all_kinds(rig):
            with pytest.raises(StorageUnavailable, match="READONLY"):
                call()
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")
    rig.storage.ping()
    assert rig.put("a") == [True]


def test_a_sleeper_hears_of_the_demotion_of_its_server_and_connects_anew(
    server: RedisServer, rig: Rig
) -> None:
    """A planned failover: whoever waits for an answer kept its connection to the old master."""
    client: Any = server.client()
    waiting = RedisStorage(server.url, rig.storage.namespace)
    rig.put("a")
    bell = rig.storage.bell("n.2", ["q"])
    bell.arm()
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    demotion = threading.Thread(target=lambda: _demote_when_blocked(client, 2))
    demotion.start()
    with pytest.raises(StorageUnavailable, match="UNBLOCKED"):
        waiting.wait([("a", "q")], 30)
    with pytest.raises(StorageUnavailable, match="UNBLOCKED"):
        bell.answer()
    demotion.join()
    with pytest.raises(StorageUnavailable, match="READONLY"):
        waiting.wait([("a", "q")], 30)
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert waiting._mailbox is not None
    assert not waiting._mailbox._link.is_connected  # type: ignore[union-attr]
    rig.settle(*map(ack, rig.lease()))
    waiting.wait([("a", "q")], 30)
    assert waiting.answer("a", "q") is not None
    waiting.close()
    bell.close()


def _demote_when_blocked(client: Any, count: int) -> None:
    wait_until(lambda: client.info("clients")["blocked_clients"] == count)
    client.replicaof("127.0.0.1", 1)


def test_lacking_replicas_are_unavailable(server: RedisServer, rig: Rig) -> None:
    client = server.client()
    client.config_set("min-replicas-to-write", 1)
    try:
        for call in _all_kinds(rig):
            with pytest.raises(StorageUnavailable, match="NOREPLICAS"):
                call()
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_a_full_disk_is_unavailable(server: RedisServer, rig: Rig) -> None:
    client = server.client()
    client.config_set("save", "3600 1")
    client.config_set("dir", "/proc")
    try:
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "failed save"
        )
        for call in _all_kinds(rig):
            with pytest.raises(StorageUnavailable, match="MISCONF"):
                call()
    finally:
        client.config_set("save", "")
        client.config_set("dir", str(server.dir))


def _all_kinds(rig: Rig) -> list[Callable[[], object]]:
    return [
        rig.storage.ping,
        lambda: rig.put("x"),
        lambda: rig.lease(1),
        lambda: rig.storage.heartbeat("n", ["q"], 10),
        lambda: rig.storage.promote(["q"]),
        lambda: rig.storage.fire("t@1", [entry("y")]),
    ]


def test_a_busy_server_is_unavailable(server: RedisServer, storage: RedisStorage) -> None:
    server.client().config_set("lua-time-limit", 10)
    blocker = server.client()
    thread = threading.Thread(target=_run_endless_script, args=(blocker,))
    thread.start()
    try:

        def is_busy() -> bool:
            try:
                storage.ping()
            except StorageUnavailable as error:
                return "BUSY" in str(error)
            return False

        wait_until(is_busy, "BUSY")
    finally:
        server.client().script_kill()
        thread.join()


def _run_endless_script(client: object) -> None:
    with pytest.raises(Exception, match=r"(?i)kill"):
        client.eval("while true do end", 0)  # type: ignore[attr-defined]


def test_a_foreign_key_in_our_place_is_reported(server: RedisServer, rig: Rig) -> None:
    server.client().set("{shop:q}:ready", "mine")
    with pytest.raises(StorageCorrupt, match="another"):
        rig.put("a")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_an_evicting_server_is_refused_unless_allowed(
    server: RedisServer, storage: RedisStorage, policy: str
) -> None:
    client = server.client()
    client.config_set("maxmemory-policy", policy)
    try:
        with pytest.raises(StorageRefused, match=f"{policy}.*noeviction"):
            storage.ping()
        allowed = RedisStorage(server.url, "shop", allow_eviction=True)
        allowed.ping()
        assert any(policy in warning for warning in allowed.warnings())
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_what_an_operator_should_know_is_said(storage: RedisStorage) -> None:
    storage.ping()
    assert any("append-only" in warning for warning in storage.warnings())


# -- forgotten scripts, lost replies, silence --------------------------------------------------


def test_scripts_that_the_server_forgot_are_loaded_again(server: RedisServer, rig: Rig) -> None:
    names = [f"j{number}" for number in range(2500)]
    client = server.client()
    rig.put("first")
    client.script_flush()
    assert rig.put(*names) == [True] * 2500
    client.script_flush()
    assert len(rig.lease(3000)) == 2501
    client.script_flush()
    rows = rig.storage.recover_worker("n.1", ["q"], running=[], how="released")
    assert len(rows) == 2501


def test_a_lost_reply_of_enqueue_can_be_repeated(server: RedisServer, rig: Rig) -> None:
    with LossyProxy(server.socket) as proxy:
        storage = RedisStorage(proxy.url, "shop")
        storage.enqueue([entry("warm")])
        proxy.lose_next_reply()
        with pytest.raises(OutcomeUnknown):
            storage.enqueue([entry("a"), entry("b")])
        assert proxy.lost.is_set()
        again = [job._replace(fresh=False) for job in (entry("a"), entry("b"), entry("c"))]
        assert storage.enqueue(again) == [False, False, True]
    assert rig.order() == ["warm", "a", "b", "c"]


def test_a_lost_reply_of_a_turn_is_reconciled(server: RedisServer, rig: Rig) -> None:
    rig.put("a", "b", "c")
    with LossyProxy(server.socket) as proxy:
        storage = RedisStorage(proxy.url, "shop")
        [first] = storage.lease("n.1", ["q"], 1).leases
        outcomes = [outcome(first, "retry", delay_ms=60_000)]
        proxy.lose_next_reply()
        with pytest.raises(OutcomeUnknown):
            storage.turn("n.1", outcomes, ["q"], 1)
        assert storage.settle("n.1", outcomes) == [True]
        [second] = storage.holdings("n.1", ["q"])
        assert second.id == "b"
        assert storage.settle("n.1", [ack(second)]) == [True]
    assert rig.states() == {"a": "scheduled", "c": "queued"}


def test_a_lost_reply_of_a_release_can_be_repeated(server: RedisServer, rig: Rig) -> None:
    rig.put("a", "b")
    with LossyProxy(server.socket) as proxy:
        storage = RedisStorage(proxy.url, "shop")
        leases = storage.lease("n.1", ["q"], 2).leases
        given = [(lease.id, lease.queue, lease.token) for lease in leases]
        assert storage.release("n.2", given) == [False, False]
        proxy.lose_next_reply()
        with pytest.raises(OutcomeUnknown):
            storage.release("n.1", given)
        assert storage.release("n.1", given) == [True, True]
    assert rig.order() == ["a", "b"]


def test_a_lost_reply_of_a_tick_fires_it_once(server: RedisServer, rig: Rig) -> None:
    with LossyProxy(server.socket) as proxy:
        storage = RedisStorage(proxy.url, "shop")
        storage.enqueue([entry("warm")])
        assert storage.fire("sweep@1000", [entry("s1")])
        storage.queues()
        proxy.lose_next_reply()
        with pytest.raises(StorageUnavailable):
            storage.fire("sweep@2000", [entry("s2")])
        storage.fire("sweep@2000", [entry("s2")])
        assert storage.fire("sweep@2000", [entry("s2")]) is Fired.BEFORE
        assert storage.last_tick("sweep") == 2000
    assert rig.order() == ["warm", "s1", "s2"]


def test_a_silent_server_is_given_up_in_time_and_used_again(
    server: RedisServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskqd.storage.redis.link.connection.CALL_S", 0.3)
    storage = RedisStorage(server.url, "shop")
    storage._link._connection.socket_timeout = 0.3
    storage.enqueue([entry("a")])
    began = time.monotonic()
    with server.frozen():
        with pytest.raises(OutcomeUnknown):
            storage.enqueue([entry("b")])
        with pytest.raises(StorageUnavailable):
            storage.job("a", "q")
    assert time.monotonic() - began < 20
    assert storage.enqueue([entry("b", fresh=False), entry("c", fresh=False)])[1]
    assert set(rig.order()) == {"a", "b", "c"}


def test_a_connection_that_the_server_closed_is_opened_anew(
    server: RedisServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskqd.storage.redis.link.connection.STALE_S", 0.0)
    rig.put("a")
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert rig.put("b") == [True]
    assert ids(rig.lease(2)) == ["a", "b"]


def test_a_silent_server_was_noticed_after_seventeen_seconds_by_who_waits(
    server: RedisServer,
) -> None:
    """Nothing ends: neither the connections nor what was asked over them."""
    idle, waiting = RedisStorage(server.url, "silence"), RedisStorage(server.url, "silence")
    rig = Rig(idle)
    rig.put("a")
    bell = idle.bell("n.2", ["q"])
    bell.arm()
    [lease] = idle.turn("n.2", (), ["q"], 1, idle=True).leases
    assert idle.turn("n.2", (), ["q"], 1, idle=True).leases == []
    bell.arm()
    # The bound is a blocking read's; were it the command connection's, this would take longer.
    assert bell.poll_s <= NOTICED_S
    with server.frozen(), pytest.raises(StorageUnavailable):
        waiting.wait([(lease.id, "q")], 30)
    with server.frozen():
        wait_until(lambda: _is_noticed(bell), "the silence to be noticed")
    for storage in (idle, waiting):
        storage.close()


def _is_noticed(bell: Bell) -> bool:
    """Ask as a worker does: again where its wait has ended, else whether it ever will."""
    try:
        if select.select([bell], [], [], 0)[0]:
            bell.answer()
        bell.arm()
    except StorageUnavailable:
        return True
    return False


def test_a_storage_carried_over_a_fork_opens_its_own_connection(
    server: RedisServer, rig: Rig
) -> None:
    import os

    rig.put("a")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if rig.put("b") == [True] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert rig.put("c") == [True]
    assert sorted(row.id for row in rig.storage.jobs(State.QUEUED)) == ["a", "b", "c"]

"""Where the server is: URLs, TLS, Sentinels and a failover."""

from __future__ import annotations

import select
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import ConfigError, NodeExpired, StorageUnavailable
from taskqd.storage.redis import RedisStorage
from taskqd.storage.redis.link.address import address
from tests.support.rigs.rig import Rig, ack, entry, ids
from tests.support.rigs.ring import rung
from tests.support.servers.ports import free_port
from tests.support.servers.redis_server import RedisServer, SentinelServer, available_servers
from tests.support.servers.tls import tls_server
from tests.support.waiting import wait_until

KINDS = sorted(available_servers())


def test_a_sentinel_url_says_all_that_is_needed() -> None:
    url = "redis+sentinel://me:s3cret@h1:26380,h2,[::1]:7/shop/3?sentinel_password=other"
    found = address(url, 5.0)
    assert "s3cret" not in found.where
    assert "other" not in found.where
    assert found.sentinels is not None
    assert found.sentinels.name == "shop"
    assert list(found.sentinels.hosts) == [("h1", 26380), ("h2", 26379), ("::1", 7)]
    assert found.sentinels.options["password"] == "other"
    chosen = {name: found.options[name] for name in ("username", "password", "db")}
    assert chosen == {"username": "me", "password": "s3cret", "db": 3}


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://h1:26379",
        "redis+sentinel://h1:nan/shop",
        "redis+sentinel://h1,,h2/shop",
        "redis+sentinel://h1/shop/db",
        "redis+sentinel://h1/shop?passwort=x",
        "redis+cluster://",
        "redis+cluster://h1:nan",
        "redis+cluster://h1,,h2",
        "redis+cluster://h1/1",
        "redis+cluster://:pw@h1?unknown_option=1",
        "redis://:pw@h1:99999999/0",
    ],
)
def test_a_wrong_address_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match="storage") as caught:
        RedisStorage(url, "shop").ping()
    assert "pw" not in str(caught.value)


def test_nothing_is_retried_behind_our_back_and_everything_has_a_limit() -> None:
    for url in ("redis://h/2", "rediss://h", "unix:///s?db=1", "redis+sentinel://h/m"):
        options = address(url, 5.0).options
        assert options["retry"].get_retries() == 0
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5.0, 2.0)
        assert options["protocol"] == 2
        assert options.get("socket_keepalive", url.startswith("unix"))


def test_a_setting_in_the_url_does_not_lift_the_limits() -> None:
    options = address("redis://h?socket_timeout=900&retry_on_timeout=true", 5.0).options
    assert options["socket_timeout"] == 5.0


def test_sentinels_that_are_down_are_named() -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/shop"
    with pytest.raises(StorageUnavailable, match=r"no Sentinel.*;.*"):
        RedisStorage(url, "shop").ping()


@pytest.mark.parametrize("kind", KINDS)
def test_work_goes_on_at_the_new_master_after_a_failover(kind: str) -> None:
    binary = available_servers()[kind]
    master = RedisServer(binary, port=free_port(), repl_diskless_sync_delay=0)
    replica = RedisServer(binary, port=free_port())
    with master, replica, SentinelServer(binary, "main", master.port) as sentinel:
        client: Any = replica.client()
        client.replicaof("127.0.0.1", master.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "replication")
        wait_until(lambda: sentinel.replicas("main") == 1, "the Sentinel's view")
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/main/0"
        storage = RedisStorage(url, "shop", durability="replica")
        rig = Rig(storage)
        rig.put("a", "b")
        [lease] = rig.lease()
        epoch = storage.epoch()
        master.kill()
        after = RedisStorage(url, "shop")
        wait_until(lambda: _serves(after), "failover")
        assert after.epoch() == epoch
        try:
            assert after.settle("n.1", [ack(lease)]) == [True]
            assert ids(after.lease("n.1", ["q"], 5)) == ["b"]
        except NodeExpired:
            pytest.fail("the registration was not replicated")
        assert after.enqueue([entry("c")]) == [True]
        after.close()


REFUSALS = {
    "NOREPLICAS": {"min_replicas_to_write": 1},
    "READONLY": {},
    "MASTERDOWN": {"replica_serve_stale_data": "no"},
}
"""What a server says that others have replaced, and how it is made to say it."""


@pytest.mark.parametrize("why", REFUSALS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_master_that_refuses_was_kept_after_the_sentinels_had_named_another(
    kind: str, why: str
) -> None:
    binary = available_servers()[kind]
    old = RedisServer(binary, port=free_port(), **REFUSALS[why])
    new = RedisServer(binary, port=free_port())
    with old, new, SentinelServer(binary, "main", old.port) as sentinel:
        storage = RedisStorage(f"redis+sentinel://127.0.0.1:{sentinel.port}/main/0", "shop")
        wait_until(lambda: _names_master(storage), "the Sentinel")
        storage._link.call("ECHO", "connected", write=False)
        if why != "NOREPLICAS":
            client: Any = old.client()
            client.replicaof("127.0.0.1", free_port())
        with pytest.raises(StorageUnavailable, match=why):
            storage.enqueue([entry("a")])
        sentinel.name_master("main", new.port)
        assert storage.enqueue([entry("a")]) == [True]
        with new.client() as after:
            assert after.hlen("{shop:q}:jobs") == 1
        storage.close()


def _names_master(storage: RedisStorage) -> bool:
    try:
        storage._link.call("ECHO", "there", write=False)
    except StorageUnavailable:
        return False
    return True


def _serves(storage: RedisStorage) -> bool:
    try:
        storage.ping()
    except StorageUnavailable:
        return False
    return True


# -- TLS ---------------------------------------------------------------------------------------


def test_tls_is_spoken_and_certificates_are_checked(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (url, certificate):
        trusted = f"{url}?ssl_ca_certs={certificate}"
        rig = Rig(RedisStorage(trusted, "shop"))
        rig.put("a")
        assert ids(rig.lease()) == ["a"]
        bell = rig.storage.bell("n.1", ["q"])
        bell.arm()
        assert rig.storage.turn("n.1", (), ["q"], 1, idle=True).leases == []
        assert select.select([bell.fileno()], [], [], 0)[0] == []
        rig.put("b")
        assert ids(rung(bell)) == ["b"]
        rig.storage.close()
        with pytest.raises(StorageUnavailable, match="(?i)certificate"):
            RedisStorage(url, "shop").ping()

"""Ways in which a storage is away, or refuses, for a while: each begins and ends by a call."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count

import redis

from tests.chaos.faults.removable import Removable
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.unruly_proxy import UnrulyProxy
from tests.support.waiting import wait_until

FILLERS = 1000
"""Keys whose loading is slowed down, so that it takes as long as it shall."""
_LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
"""
End = Callable[[], None]
"""Ends the absence; returns when the storage serves again."""
Way = Callable[[Removable, float], End]


def killed(storage: Removable, _seconds: float) -> End:
    for server in storage.servers:
        server.kill()

    def end() -> None:
        for server in storage.servers:
            server.start()
        storage.wait_serving()

    return end


def stopped(storage: Removable, _seconds: float) -> End:
    for server in storage.servers:
        server.signal(signal.SIGSTOP)

    def end() -> None:
        for server in storage.servers:
            server.signal(signal.SIGCONT)
        storage.wait_serving()

    return end


def partitioned(storage: Removable, _seconds: float) -> End:
    """No byte passes, in either direction, and no connection ends."""
    return silenced(storage.proxies)


def silenced(proxies: list[UnrulyProxy]) -> End:
    """As a partition, for who goes by these proxies."""
    for proxy in proxies:
        proxy.stalled.set()

    def end() -> None:
        for proxy in proxies:
            proxy.stalled.clear()

    return end


def one_way(storage: Removable, _seconds: float) -> End:
    """What is asked arrives and takes effect; no reply comes back, and no connection ends."""
    for proxy in storage.proxies:
        proxy.mute.set()

    def end() -> None:
        for proxy in storage.proxies:
            proxy.mute.clear()

    return end


def refused(storage: Removable, _seconds: float) -> End:
    """Connections are cut, and new ones are refused."""
    for proxy in storage.proxies:
        proxy.refuse()

    def end() -> None:
        for proxy in storage.proxies:
            proxy.accept()

    return end


def loading(storage: Removable, seconds: float) -> End:
    """It is restarted, and takes so long to load its data."""
    for server in storage.servers:
        _fill(server)
    storage.wait_serving()
    sizes = [_rewritten(server) for server in storage.servers]
    for server in storage.servers:
        server.kill()
    for server, keys in zip(storage.servers, sizes, strict=True):
        server.conf["key_load_delay"] = round(seconds * 1e6 / max(keys, FILLERS))
        with contextlib.suppress(RuntimeError):  # It is not ready yet.
            server.start(wait_s=0.0)
        del server.conf["key_load_delay"]

    def end() -> None:
        storage.wait_serving()
        for server in storage.servers:
            server.wait_ready()
            _empty(server)

    return end


def _fill(server: RedisServer) -> None:
    with server.client() as client:
        if client.info("replication")["role"] == "master":
            tag = _own_tag(client)
            client.mset({f"filler:{{{tag}}}:{number}": "" for number in range(FILLERS)})


def _empty(server: RedisServer) -> None:
    with server.client() as client:
        if client.info("replication")["role"] == "master":
            names = list(client.scan_iter("filler:*", count=FILLERS))
            if names:
                client.delete(*names)


def _own_tag(client: redis.Redis) -> str:
    """Return a hash tag of a slot that this server has."""
    for number in count():
        with contextlib.suppress(redis.ResponseError):  # MOVED: it has another server's slot.
            client.set(f"filler:{{{number}}}:0", "")
            return str(number)
    raise AssertionError


def _rewritten(server: RedisServer) -> int:
    """Have its data in one file that is loaded key by key; return how many keys that is."""
    with server.client() as client:
        keys = int(client.dbsize())
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "rewrite")
    return keys


def password_changed(storage: Removable, _seconds: float) -> End:
    admins = [server.client() for server in storage.servers]
    for admin in admins:
        admin.config_set("requirepass", "another")
        admin.client_kill_filter(_type="normal", skipme=True)

    def end() -> None:
        for admin in admins:
            admin.config_set("requirepass", "")
            admin.close()
        storage.wait_serving()

    return end


def full(storage: Removable, _seconds: float) -> End:
    _configure(storage, "maxmemory", 1)
    return lambda: _configure(storage, "maxmemory", 0)


def _configure(storage: Removable, name: str, value: int) -> None:
    for server in storage.servers:
        with server.client() as client:
            client.config_set(name, value)


def read_only(storage: Removable, _seconds: float) -> End:
    [server] = storage.servers
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)

    def end() -> None:
        with server.client() as again:
            again.replicaof("NO", "ONE")

    return end


def failed_over(storage: Removable, _seconds: float) -> End:
    """The master dies and stays dead: the storage is away until its replica takes its place."""
    storage.master().kill()
    return storage.wait_serving


def locked(storage: Removable, _seconds: float) -> End:
    """Another process keeps the write lock of the SQLite file."""
    # A process of its own: closing a file drops all locks that a process has on it.
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", _LOCKER, storage.path]
    locker = subprocess.Popen(argv, stdin=pipe, stdout=pipe)
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"locked\n"

    def end() -> None:
        locker.communicate(timeout=60)

    return end


def cut_off(storage: Removable, _seconds: float) -> End:
    """One daemon alone is partitioned from a storage that serves the others."""
    return silenced(storage.proxies[:1])


CUT_OFF = "cut off from one daemon"
FAILED_OVER = "failed over"
_OF_SERVERS: dict[str, Way] = {
    "killed": killed,
    "stopped": stopped,
    "loading": loading,
    "password changed": password_changed,
    "full": full,
}
_OF_ONE: dict[str, Way] = {
    **_OF_SERVERS,
    "read-only": read_only,
    "partitioned": partitioned,
    "one-way": one_way,
    "refused": refused,
    CUT_OFF: cut_off,
}
_OF_SEVERAL: dict[str, Way] = {**_OF_SERVERS, FAILED_OVER: failed_over}
WAYS: dict[str, dict[str, Way]] = {
    "redis": _OF_ONE,
    "valkey": _OF_ONE,
    "sentinel": _OF_SEVERAL,
    "cluster": _OF_SEVERAL,
    "sqlite": {"locked": locked},
}
"""Kind of storage -> the ways in which it can be away."""

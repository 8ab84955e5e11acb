"""Ways in which a storage is away, or refuses, for a while: each begins and ends by a call."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable

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


def killed(server: RedisServer, _proxies: list[UnrulyProxy], _seconds: float) -> End:
    server.kill()

    def end() -> None:
        server.start()

    return end


def stopped(server: RedisServer, _proxies: list[UnrulyProxy], _seconds: float) -> End:
    server.signal(signal.SIGSTOP)

    def end() -> None:
        server.signal(signal.SIGCONT)
        server.wait_ready()

    return end


def partitioned(_server: RedisServer, proxies: list[UnrulyProxy], _seconds: float) -> End:
    """No byte passes, in either direction, and no connection ends."""
    for proxy in proxies:
        proxy.stalled.set()

    def end() -> None:
        for proxy in proxies:
            proxy.stalled.clear()

    return end


def loading(server: RedisServer, _proxies: list[UnrulyProxy], seconds: float) -> End:
    """It is restarted, and takes so long to load its data."""
    with server.client() as client:
        client.mset({f"filler:{number}": "" for number in range(FILLERS)})
        keys = client.dbsize()
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "rewrite")
    server.kill()
    server.conf["key_load_delay"] = round(seconds * 1e6 / keys)
    with contextlib.suppress(RuntimeError):  # It is not ready yet.
        server.start(wait_s=0.0)
    del server.conf["key_load_delay"]

    def end() -> None:
        server.wait_ready()
        with server.client() as client:
            client.delete(*(f"filler:{number}" for number in range(FILLERS)))

    return end


def password_changed(server: RedisServer, _proxies: list[UnrulyProxy], _seconds: float) -> End:
    admin = server.client()
    admin.config_set("requirepass", "another")
    admin.client_kill_filter(_type="normal", skipme=True)

    def end() -> None:
        admin.config_set("requirepass", "")
        admin.close()

    return end


def full(server: RedisServer, _proxies: list[UnrulyProxy], _seconds: float) -> End:
    with server.client() as client:
        client.config_set("maxmemory", 1)

    def end() -> None:
        with server.client() as again:
            again.config_set("maxmemory", 0)

    return end


def read_only(server: RedisServer, _proxies: list[UnrulyProxy], _seconds: float) -> End:
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)

    def end() -> None:
        with server.client() as again:
            again.replicaof("NO", "ONE")

    return end


def locked(path: str) -> End:
    """Another process keeps the write lock of the SQLite file."""
    # A process of its own: closing a file drops all locks that a process has on it.
    pipe = subprocess.PIPE
    locker = subprocess.Popen([sys.executable, "-c", _LOCKER, path], stdin=pipe, stdout=pipe)
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"locked\n"

    def end() -> None:
        locker.communicate(timeout=60)

    return end


OF_REDIS = {
    "killed": killed,
    "stopped": stopped,
    "partitioned": partitioned,
    "loading": loading,
    "password changed": password_changed,
    "full": full,
    "read-only": read_only,
}
OF_SQLITE = {"locked": locked}
CUT_OFF = "cut off from one daemon"

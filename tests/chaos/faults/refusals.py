"""Servers that are there and refuse: they cannot save, want a password, are still loading."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import redis

from tests.chaos.faults.operation import DEAD_S
from tests.chaos.faults.outages import KillStorage, OnServer
from tests.chaos.ledger import Fault
from tests.chaos.world import WAIT_S, Broke, wait_for
from tests.support.servers.redis_server import RedisServer

PASSWORD = "chaos"
KEY_DELAY_US = 300
"""A server that loads takes so long for each key."""


class Refusal(OnServer):
    """Base of faults in which the server answers each write with an error."""

    word = ""

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        self.fault.storage = True
        self.provoke()
        return True

    def provoke(self) -> None:
        raise NotImplementedError

    def verify(self) -> None:
        wait_for(self._refused, f"the server says {self.word}", DEAD_S)
        self.fault.took_hold = self.word

    def _refused(self) -> bool:
        try:
            # Without the password that this client has: as the daemon's processes see it.
            with redis.Redis(unix_socket_path=self.server.socket, socket_timeout=2) as client:
                client.set("chaos-probe", "x", ex=1)
        except redis.RedisError as error:
            return self.word in f"{type(error).__name__} {error}"
        return False


class UnsavedStorage(Refusal):
    """Its last snapshot failed: MISCONF until one succeeds."""

    name, word = "unsaved storage", "MISCONF"

    def provoke(self) -> None:
        with self.client() as client:
            self._snapshot = self.server.dir / client.config_get("dbfilename")["dbfilename"]
            # A folder cannot be replaced by the file.
            self._snapshot.unlink(missing_ok=True)
            self._snapshot.mkdir()
            (self._snapshot / "in the way").touch()
            client.config_set("stop-writes-on-bgsave-error", "yes")
            client.config_set("save", "3600 1000000000")
            self._save(client)

    def heal(self) -> None:
        (self._snapshot / "in the way").unlink()
        self._snapshot.rmdir()
        with self.client() as client:
            client.config_set("save", "")
            self._save(client)
            wait_for(lambda: _info(client, "rdb_last_bgsave_status") == "ok", "a save", WAIT_S)

    @staticmethod
    def _save(client: redis.Redis) -> None:
        def begun() -> bool:
            with contextlib.suppress(redis.ResponseError):
                client.bgsave()
                return True
            return False

        wait_for(begun, "a snapshot begins", WAIT_S)
        wait_for(lambda: _info(client, "rdb_bgsave_in_progress") == 0, "a snapshot ends", WAIT_S)


def _info(client: redis.Redis, name: str) -> object:
    return client.info("persistence")[name]


class LockedOut(Refusal):
    """Somebody has set a password and cut all connections.

    A daemon that starts then is told so and ends, which is meant; one that serves must live on,
    though a child of it that boots just then cannot.
    """

    name, word = "password storage", "AuthenticationError"

    def inject(self) -> bool:
        return self.world.began("master.ready") and super().inject()

    def close(self) -> Fault:
        crashed = self.world.events("worker.crashed")
        unborn = {event["child_pid"] for event in crashed if event["cause"] == "boot"}
        self.fault.killed = [pid for pid in unborn if pid]
        return super().close()

    def provoke(self) -> None:
        self._inside = self.server.client()
        self._inside.config_set("requirepass", PASSWORD)
        self._inside.client_kill_filter(_type="normal", skipme=True)

    def heal(self) -> None:
        self._inside.config_set("requirepass", "")
        self._inside.close()


class LoadingStorage(KillStorage):
    """It was killed, comes back and answers LOADING for a while."""

    name = "loading storage"

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        with self.client() as client:
            # What is loaded key by key is the snapshot at the head of a rewritten log.
            self._rewrite(client)
        return super().inject()

    @staticmethod
    def _rewrite(client: redis.Redis) -> None:
        def begun() -> bool:
            with contextlib.suppress(redis.ResponseError):
                client.bgrewriteaof()
                return True
            return False

        wait_for(begun, "a rewrite begins", WAIT_S)
        wait_for(lambda: _info(client, "aof_rewrite_in_progress") == 0, "a rewrite ends", WAIT_S)

    def heal(self) -> None:
        server = self.server
        before = dict(server.conf)
        server.conf |= {
            "key_load_delay": KEY_DELAY_US,
            "loading_process_events_interval_bytes": 1024,
        }
        self._watched(lambda: server.start(WAIT_S))
        server.conf.clear()
        server.conf |= before
        self.fault.healed = time.monotonic_ns()

    @property
    def server(self) -> RedisServer:
        if self.world.server is None:
            raise Broke("there is no server")
        return self.world.server

    def client(self) -> redis.Redis:
        return self.server.client(socket_timeout=2)

    def _watched(self, start: Callable[[], object]) -> None:
        start()
        text = self.server.log.read_text()
        self.fault.took_hold += ", loaded slowly" if "DB loaded" in text else ""

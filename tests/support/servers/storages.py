"""Every storage that there is, for suites that must hold on all of them.

`backends()` names them; `open_backend(name, dir)` starts what a backend needs and gives a `Backend`
that opens any number of handles.  Where a server is not installed, the test is skipped with a
reason; in CI (environment CI) it fails, so that nobody believes it was covered.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskqd.storage import open_storage
from taskqd.storage.base import Storage

NAMES = ("memory", "sqlite", "redis", "valkey", "cluster")
_numbers = itertools.count()


class Backend:
    """One storage kind, running.  `url` is None where other processes cannot reach it."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url

    @property
    def crosses_processes(self) -> bool:
        return self.name != "memory"

    def open(self, namespace: str) -> Storage:
        return open_storage(self.url, namespace, durability="memory")

    def namespace(self) -> str:
        """Return a namespace that nobody has used, so that tests share servers and files."""
        return f"t{next(_numbers)}-{uuid.uuid4().hex[:8]}"


@contextmanager
def open_backend(name: str, folder: Path) -> Iterator[Backend]:
    if name == "memory":
        yield Backend(name, "memory://suite")
    elif name == "sqlite":
        yield Backend(name, f"sqlite:///{folder}/suite.db")
    elif name == "cluster":
        from tests.support.servers.redis_cluster import RedisCluster

        with RedisCluster(_server_binary("redis")) as cluster:
            yield Backend(name, cluster.url)
    else:
        from tests.support.servers.redis_server import RedisServer

        with RedisServer(binary=_server_binary(name)) as server:
            yield Backend(name, server.url)


def _server_binary(name: str) -> str:
    from tests.support.servers.redis_server import available_servers

    binary = available_servers().get(name)
    if binary is None:
        missing: Callable[[str], None] = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no {name} server on this machine")
    return str(binary)


def backends(*names: str, scope: Any = "module") -> Any:
    """Return the fixture `backend`: each of these storages in turn."""

    @pytest.fixture(scope=scope, params=names)
    def backend(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Backend]:
        with open_backend(request.param, tmp_path_factory.mktemp(request.param)) as opened:
            yield opened

    return backend

"""Each test of this folder runs on every storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskqd.storage.base import Storage
from taskqd.storage.features import Features
from tests.support.rigs.rig import Rig
from tests.support.servers.storages import NAMES, Backend, backends

backend = backends(*NAMES, scope="session")


@pytest.fixture
def storage(backend: Backend) -> Iterator[Storage]:
    opened = backend.open(backend.namespace())
    yield opened
    opened.close()


@pytest.fixture
def rig(storage: Storage) -> Rig:
    return Rig(storage)


@pytest.fixture
def features(storage: Storage) -> Features:
    """The storage, as the second half of the contract."""
    return storage


@pytest.fixture
def rig2(storage: Storage) -> Rig:
    """Two queues, `q` before `r`."""
    return Rig(storage, ("q", "r"))

"""Each test of this folder runs on every storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskqd.storage.base import Storage
from taskqd.storage.features import Features
from tests.support.rig import Rig
from tests.support.storages import NAMES, Backend, open_backend


@pytest.fixture(scope="session", params=NAMES)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    with open_backend(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


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

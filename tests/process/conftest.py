"""A shop on each storage that other processes can reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.servers.storages import open_backend


@pytest.fixture(params=["sqlite", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with (
        open_backend(request.param, tmp_path) as backend,
        open_shop(tmp_path, backend.url) as opened,
    ):
        yield opened

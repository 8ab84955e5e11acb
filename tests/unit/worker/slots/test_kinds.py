"""The kinds of slots by name."""

from __future__ import annotations

import pytest

from taskqd.errors import ConfigError
from taskqd.settings import WorkerSettings
from taskqd.worker.slots import kinds


def test_a_kind_that_does_not_exist_yet_is_named() -> None:
    with pytest.raises(ConfigError, match="'fibre'"):
        kinds.preload(WorkerSettings(type="fibre"), "memory://x")  # type: ignore[arg-type]

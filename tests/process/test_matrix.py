"""Every scenario with every kind of worker, judged by a ledger outside of daemon and storage.

The suite takes a part in which each scenario and each kind occurs; MATRIX=1 takes all (`make
matrix`, whose last result is docs/scenarios.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matrix.scenarios import SCENARIOS
from tests.support.matrix.yard import KINDS, Yard
from tests.support.servers.storages import open_backend

WHOLE = bool(os.environ.get("MATRIX"))
LEAN = [
    ("worker killed", "greenlet"),
    ("worker killed", "asyncio"),
    ("hung in Python", "asyncio"),
    ("hung in C", "thread"),
    ("out of memory", "thread"),
    ("exits", "asyncio"),
    ("segfaults", "greenlet"),
    ("forks children", "thread"),
    ("ignores signals", "process"),
    ("master killed", "greenlet"),
    ("zygote killed", "asyncio"),
    ("TERM idle", "asyncio"),
    ("TERM busy", "greenlet"),
    ("TERM busy", "asyncio"),
    ("TERM twice", "thread"),
    ("TERM during boot", "greenlet"),
    ("TERM during reload", "thread"),
    ("HUP good", "greenlet"),
    ("HUP good", "asyncio"),
    ("HUP broken", "thread"),
    ("TSTP and CONT", "greenlet"),
    ("scaled up and down", "asyncio"),
]
"""HUP hanging, leaks: tests/process/test_reload.py, test_recycle.py."""
ALL = [(scenario, kind) for scenario in SCENARIOS for kind in KINDS]


@pytest.fixture
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    storage = os.environ.get("STORAGE") or "sqlite"
    with open_backend(storage, tmp_path) as backend:
        opened = Yard(tmp_path, backend.url, request.param)
        yield opened
        opened.close()


@pytest.mark.parametrize(("scenario", "yard"), ALL if WHOLE else LEAN, indirect=["yard"])
def test_nothing_is_lost_and_nothing_is_left(scenario: str, yard: Yard) -> None:
    if yard.kind == "greenlet":
        pytest.importorskip("gevent")
    SCENARIOS[scenario](yard)

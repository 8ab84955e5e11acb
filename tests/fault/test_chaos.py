"""A short run of chaos on every storage: no law may be broken.  `make chaos` runs longer ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.chaos import torment
from tests.chaos.plan import make_plan
from tests.chaos.report import markdown
from tests.support.servers.redis_server import available_servers

SECONDS = 15.0
RUNS = [("sqlite", "thread"), ("redis", "process"), ("valkey", "greenlet")]


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "kind"), RUNS)
def test_nothing_is_lost_under_kills_freezes_and_outages(
    tmp_path: Path, storage: str, kind: str
) -> None:
    if storage != "sqlite" and storage not in available_servers():
        pytest.fail("no server") if os.environ.get("CI") else pytest.skip(f"no {storage} server")
    report = torment(tmp_path / "run", seconds=SECONDS, seed=1, storage=storage, kind=kind)
    print(markdown(report))
    assert report.broken == []
    assert report.counts["jobs"] > 100
    assert sum(report.faults.values()) >= 5


def test_a_seed_makes_the_same_plan_again() -> None:
    assert make_plan(7, 60, "redis") == make_plan(7, 60, "redis")
    assert make_plan(7, 60, "redis") != make_plan(8, 60, "redis")

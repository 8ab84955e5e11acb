"""Processes that end, and storages that fail, at named steps; `make failpoints` walks all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskqd import App
from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.storage.memory import MemoryStorage
from tests.chaos.failpoint_walk import unwalked, walk
from tests.chaos.faults.failpoint_faults import WALK
from tests.chaos.faults.failpoints import ENV, AppUnderFire
from tests.support.rigs.daemon import ROOT
from tests.support.rigs.rig import entry
from tests.support.servers.redis_server import available_servers

PLACES = [
    ("", "desk.lease.after"),
    ("", "desk.exchange.before"),
    ("", "desk.exchange.after"),
    ("", "desk.requeue.after"),
    ("", "desk.answer.before"),
    ("", "worker.lock.after"),
    ("", "chores.promote.after"),
    ("", "chores.fire.after"),
    ("kill worker", "chores.recover_worker.after"),
    ("stop", "keeper.register.after"),
    ("kill tree", "chores.recover_node.before"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "places"), [("sqlite", PLACES[::2]), ("redis", PLACES[1::2])])
def test_a_process_that_dies_between_two_calls_to_the_storage_loses_nothing(
    tmp_path: Path, storage: str, places: list[tuple[str, str]]
) -> None:
    if storage != "sqlite" and storage not in available_servers():
        pytest.skip(f"no {storage} server")
    report, seen = walk(tmp_path / "walk", storage, "kill", places)
    assert report.broken == []
    assert {f"kill at {step}" for _, step in places} <= set(report.faults)
    assert not unwalked(seen), "steps that `make failpoints` does not walk"


def test_every_place_of_the_short_walk_is_one_of_the_long_one() -> None:
    assert set(PLACES) <= set(WALK)


def test_a_storage_is_plain_where_nothing_asks_for_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV, raising=False)
    assert type(AppUnderFire("plain", "memory://").open_storage()) is MemoryStorage
    monkeypatch.setenv(ENV, "client.*=error")
    assert type(App("plain", "memory://").open_storage()) is MemoryStorage


def test_a_fault_before_a_call_keeps_it_from_happening_and_one_after_loses_the_reply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ENV, str(tmp_path))
    storage = AppUnderFire("faults", "memory://faults").open_storage()
    for side, error, known in (("before", StorageUnavailable, 0), ("after", OutcomeUnknown, 1)):
        (tmp_path / f"client.enqueue.{side}").write_text("error")
        with pytest.raises(error):
            storage.enqueue([entry("job")])
        assert sum(row.queued for row in storage.queues()) == known
    assert storage.enqueue([entry("job", fresh=False)]) == [False]


def test_a_rule_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, "desk.settle.before=explode")
    with pytest.raises(ValueError, match="explode"):
        AppUnderFire("rules", "memory://").open_storage()


def test_a_process_kills_itself_where_a_rule_says_so() -> None:
    code = "from tests.chaos.faults.failpoints import *; AppUnderFire('k', 'memory://').open_storage().ping()"
    env = {ENV: "client.ping.before=kill:1.0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=False)
    assert done.returncode == -signal.SIGKILL

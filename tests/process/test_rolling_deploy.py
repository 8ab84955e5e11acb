"""Daemons of two versions of the code on one storage, judged by what they wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from taskqd import App, JobDead
from tests.support.apps import rolling
from tests.support.rigs.daemon import Daemon, settings_json
from tests.support.rigs.shop_daemon import RUN
from tests.support.servers.storages import Backend, backends
from tests.support.waiting import HANG_S, wait_until

JOBS = 40
backend = backends("sqlite", "redis", "valkey", "cluster")


class Deploy:
    """A place for daemons of both versions, and their callers' app."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.url = backend.url
        self.name = backend.namespace()
        self.folder = folder
        self.ledger = folder / "ledger"
        self.app: App = rolling.make(self.name, self.url, rolling.TASKS)
        self.task: Any = self.app.registry

    def daemon(self, name: str, tasks: Sequence[str], **changes: Any) -> Daemon:
        folder = self.folder / name
        folder.mkdir()
        storage = {"url": self.url, "durability": "memory", "connect_wait_s": 60}
        changes = {"app": "tests.support.apps.rolling:app", "storage": storage, **changes}
        env = {
            "ROLLING_LEDGER": str(self.ledger),
            "ROLLING_NAME": name,
            "ROLLING_APP": self.name,
            "ROLLING_TASKS": " ".join(tasks),
            "TASKQD_STORAGE": self.url,
        }
        settings = settings_json(folder, name=name, **changes)
        return Daemon(folder, [sys.executable, "-c", RUN.format(changes="pass"), settings], env=env)

    def notes(self) -> list[str]:
        return sorted(self.ledger.read_text().splitlines()) if self.ledger.exists() else []


@pytest.fixture
def deploy(backend: Backend, tmp_path: Path) -> Iterator[Deploy]:
    made = Deploy(backend, tmp_path)
    yield made
    made.app.close()


def test_a_job_that_waits_for_new_code_was_told_dead_each_time_an_old_daemon_met_it(
    deploy: Deploy,
) -> None:
    add, fresh, removed = (deploy.task[name] for name in ("add", "fresh", "removed"))
    with deploy.daemon("old", rolling.OLD) as old:
        early = fresh(0)
        old.wait("job.parked", job_id=early.id)
        with deploy.daemon("new", rolling.NEW) as new:
            assert early.get(timeout=HANG_S) == 0
            results = [task(n) for n in range(1, JOBS) for task in (fresh, removed)]
            chain = deploy.app.enqueue(add.s(1, 2).then(fresh).then(removed))
            chord = deploy.app.enqueue(
                deploy.app.chord(
                    [fresh.s(JOBS), removed.s(JOBS), add.s(1, 1)], deploy.task["total"]
                )
            )
            got = [result.get(timeout=HANG_S) for result in results]
            assert got == [value for n in range(1, JOBS) for value in (10 * n, 100 * n)]
            assert chain.get(timeout=HANG_S) == [3, 30, 3000]
            assert chord.get(timeout=HANG_S) == [10 * JOBS, 100 * JOBS, 2]
            assert (new.stop(), old.stop()) == (0, 0)
    starts = [f"new fresh {n}" for n in (*range(JOBS + 1), 3)]
    starts += [f"old removed {n}" for n in (*range(1, JOBS + 1), 30)]
    assert deploy.notes() == sorted(starts), "each ran once, where its code is, and none is dead"
    assert old.events("job.dead") == new.events("job.dead") == []
    assert list(deploy.app.storage.leftovers()) == []


def test_a_job_whose_code_was_rolled_back_waits_for_the_next_roll_out(deploy: Deploy) -> None:
    fresh = deploy.task["fresh"]
    with deploy.daemon("old", rolling.OLD) as old:
        with deploy.daemon("new", rolling.NEW) as new:
            assert fresh(1).get(timeout=HANG_S) == 10
            assert new.stop() == 0
        waits = fresh(2)
        old.wait("job.parked", job_id=waits.id)
        with deploy.daemon("newer", rolling.NEW) as newer:
            assert waits.get(timeout=HANG_S) == 20
            assert newer.stop() == 0
        assert old.stop() == 0
    assert deploy.notes() == ["new fresh 1", "newer fresh 2"]
    assert old.events("job.dead") == []


def test_a_job_that_no_daemon_knows_is_told_dead_once_and_comes_back_all_the_same(
    deploy: Deploy,
) -> None:
    hasty = {"limits": {"unknown_patience_s": 0.2}}
    with (
        deploy.daemon("one", rolling.OLD, **hasty) as one,
        deploy.daemon("two", rolling.OLD, **hasty) as two,
    ):
        result = deploy.task["fresh"](1)
        with pytest.raises(JobDead, match="no task named 'fresh'"):
            result.get(timeout=HANG_S)
        wait_until(lambda: any("dead" in note for note in deploy.notes()))
        with deploy.daemon("new", rolling.NEW) as new:
            wait_until(lambda: "new fresh 1" in deploy.notes())
            assert new.stop() == 0
        assert (one.stop(), two.stop()) == (0, 0)
    told = [note.partition(" ")[2] for note in deploy.notes() if "dead" in note]
    assert told == [f"dead {result.id}"]
    assert len(one.events("job.dead")) + len(two.events("job.dead")) == 1
    assert result.get(timeout=HANG_S) == 10

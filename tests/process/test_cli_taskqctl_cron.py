"""taskqctl about periodic tasks and locks, on SQLite and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from taskqd.app import App
from taskqd.periodic.cron import every
from taskqd.storage.base import Node
from tests.support.rigs.ctl import Done, taskqctl
from tests.support.servers.storages import Backend, backends

TASKS = """
from taskqd import App, crontab, every
app = App("{namespace}", timezone="America/New_York")

@app.periodic_task(crontab("30 2 * * *"), name="nightly")
def nightly() -> None: ...

@app.periodic_task(every(minutes=5), name="sweep", queue="q", overlap="skip")
def sweep() -> None: ...
"""


backend = backends("sqlite", "redis")


class World(NamedTuple):
    folder: Path
    app: App

    def ctl(self, *words: str, code: int = 0, app: str = "tasks:app") -> Done:
        env = {"TASKQD_STORAGE": self.app.storage_url, "TASKQD_APP": app}
        done = taskqctl(self.folder, *words, **env)
        assert done.code == code, done.err
        return done

    def json(self, *words: str) -> Any:
        return msgspec.json.decode(self.ctl(*words, "--json").out)


@pytest.fixture
def world(backend: Backend, tmp_path: Path) -> Iterator[World]:
    namespace = backend.namespace()
    (tmp_path / "tasks.py").write_text(TASKS.format(namespace=namespace))
    app = App(namespace, backend.url)
    app.storage.register(Node("n1", name="prod@host", pid=7), ["q"], 60)
    yield World(tmp_path, app)
    app.close()


def test_periodic_tasks_are_listed_paused_resumed_and_run(world: World) -> None:
    app = world.app
    app.task(name="sweep")(lambda: None)
    app.periodic.add("made", "sweep", every(seconds=7))
    app.storage.fire("nightly@1767250800000", [])
    assert world.json("cron", "pause", "nightly") == {
        "name": "nightly", "paused": True, "changed": True
    }  # fmt: skip
    made, nightly, sweep = world.json("cron", "ls")
    assert (made["name"], made["task"], made["declared"]) == ("made", "sweep", False)
    assert nightly["last_at"] == "2026-01-01T07:00:00.000Z"
    assert (nightly["paused"], nightly["next_at"]) == (True, None)
    assert (sweep["overlap"], sweep["paused"], sweep["rule"]) == (
        "skip",
        False,
        "every(seconds=300)",
    )
    assert datetime.fromisoformat(sweep["next_at"]) > datetime.now(UTC)
    listed = world.ctl("cron", "ls")
    assert listed.err == ""
    table = listed.out.splitlines()
    assert table[0].split() == [
        "NAME",
        "RULE",
        "TIMEZONE",
        "NEXT",
        "AT",
        "LAST",
        "AT",
        "PAUSED",
        "ERROR",
    ]
    assert world.json("cron", "resume", "nightly")["changed"] is True
    assert world.json("cron", "resume", "nightly")["changed"] is False

    ran = world.json("cron", "run", "sweep")
    assert (ran["task"], ran["queue"]) == ("sweep", "q")
    [lease] = app.storage.lease("n1.1", ["q"], 5).leases
    assert lease.id == ran["id"]
    refused = world.ctl("cron", "run", "sweep", code=1)
    assert "sweep: its last job is not over, and overlap is 'skip'" in refused.err
    assert app.storage.last_tick("sweep") is None


def test_the_coming_ticks_are_printed_in_the_zone_of_the_task(world: World) -> None:
    rows = world.json("cron", "next", "nightly", "-n", "400")
    assert len(rows) == 400
    assert {row["at"][11:16] for row in rows} <= {"02:30", "03:00"}  # 03:00: right after the gap
    assert {row["at"][19:] for row in rows} == {"-05:00", "-04:00"}
    for row in rows:
        assert datetime.fromisoformat(row["at"]) == datetime.fromisoformat(row["utc"])
    world.ctl("cron", "pause", "nightly")
    printed = world.ctl("cron", "next", "nightly")
    assert len(printed.out.splitlines()) == 6
    assert printed.err == "note: nightly is paused; these would be its ticks\n"


def test_what_cannot_be_done_is_said_in_one_line(world: World) -> None:
    unknown = world.ctl("cron", "next", "nobody", code=1)
    assert "no periodic task 'nobody'" in unknown.err
    assert unknown.err.rstrip().endswith("known: nightly, sweep")
    assert "needed here: say --app or --config" in world.ctl("cron", "ls", app="", code=64).err
    other = world.ctl("cron", "ls", "--namespace", "other", code=64)
    assert "leave it out" in other.err
    assert "-n" in world.ctl("cron", "next", "sweep", "-n", "0", code=64).err


def test_locks_are_listed_and_released(world: World) -> None:
    storage = world.app.storage
    token = storage.lock("import", "client:me", ttl_s=60)
    storage.lock("report", "n1.1#5")
    first, second = world.json("lock", "ls")
    assert (first["name"], first["owner"], first["token"]) == ("import", "client:me", token)
    assert 0 < first["expires_in_s"] <= 60
    assert (second["name"], second["expires_in_s"]) == ("report", None)
    assert world.json("lock", "release", "import") == {"lock": "import", "released": 1}
    assert [row.name for row in storage.locks()] == ["report"]
    assert "lock import: not held" in world.ctl("lock", "release", "import", code=1).err


def test_a_storage_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS.format(namespace="shop"))
    env = {"TASKQD_APP": "tasks:app", "TASKQD_STORAGE": f"sqlite:///{tmp_path}/none.db"}
    done = taskqctl(tmp_path, "cron", "ls", **env)
    assert done.code == 69
    assert "no such file" in done.err
    assert not (tmp_path / "none.db").exists()

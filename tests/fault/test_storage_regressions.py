"""Defects of storages that chaos has found, each by what went wrong."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from taskqd.errors import StorageUnavailable
from taskqd.execution.runner import Runner
from taskqd.jobs.job import Lease
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage import open_storage
from taskqd.storage.base import Storage
from tests.chaos.faults import failpoints
from tests.chaos.faults.failpoints import AppUnderFire
from tests.support.rigs.daemon import ROOT
from tests.support.rigs.plain_place import PlainPlace
from tests.support.rigs.rig import Rig, ids
from tests.support.rigs.ring import rung
from tests.support.servers.storages import Backend, open_backend
from tests.support.waiting import wait_until

NAMESPACE = "shop"
IDLE_WORKER = """
import sys, time
from taskqd.errors import StorageUnavailable
from taskqd.execution.runner import Runner
from taskqd.jobs.job import Lease
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage import open_storage
from taskqd.storage.base import Node
storage = open_storage(sys.argv[1], sys.argv[2])
storage.register(Node("dead"), ["q"], 600)
storage.bell("dead.1", ["q"]).arm()
storage.turn("dead.1", (), ["q"], 1, idle=True)
print("idle", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module", params=["sqlite", "redis", "valkey"])
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    with open_backend(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def app(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AppUnderFire]:
    """An app whose storage fails where a file in `tmp_path` says so."""
    monkeypatch.setenv(failpoints.ENV, str(tmp_path))
    opened = AppUnderFire(backend.namespace(), backend.url)
    yield opened
    opened.close()


@pytest.fixture
def storage(backend: Backend) -> Iterator[Storage]:
    opened = open_storage(backend.url, backend.namespace())
    yield opened
    opened.close()


def test_a_job_handed_to_a_worker_that_was_dead_already_was_counted_as_its_crash(
    backend: Backend, storage: Storage
) -> None:
    """The worker died while it was idle, the job came after that: it cannot have started."""
    rig = Rig(storage)
    argv = [sys.executable, "-c", IDLE_WORKER, backend.url, storage.namespace]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as idle:
        assert idle.stdout is not None
        assert idle.stdout.readline() == b"idle\n"
        idle.kill()
    rig.put("late")
    assert [job for job in storage.recover_node("dead", ["q"]) if job.how != "released"] == []
    (lease,) = rig.lease(10)
    assert ids([lease]) == ["late"]
    assert lease.record.startswith(b"{"), "its record says that something has happened to it"


def test_a_job_was_dropped_that_rang_a_worker_which_did_not_know_that_it_was_listed_as_idle(
    backend: Backend, storage: Storage
) -> None:
    """A turn that a worker has given up (the server was silent) may be done later all the same."""
    if backend.name == "sqlite":
        pytest.skip("no commands under way: calls are done when they return")
    rig = Rig(storage)
    forgotten = open_storage(backend.url, storage.namespace)
    forgotten.bell("n.1", ["q"]).arm()
    forgotten.turn("n.1", (), ["q"], 1, idle=True)
    with redis.Redis(unix_socket_path=backend.url.removeprefix("unix://")) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    worker = open_storage(backend.url, storage.namespace)
    bell = worker.bell("n.1", ["q"])
    bell.arm()
    worker.turn("n.1", (), ["q"], 1, idle=True)
    rig.put("job")
    wait_until(lambda: select.select([bell.fileno()], [], [], 0)[0], "the bell rings")
    leases = worker.turn("n.1", (), ["q"], 1, idle=True).leases
    assert ids([*leases, *rung(bell)]) == ["job"]
    bell.close()
    worker.close()


def test_a_job_was_dropped_that_rang_before_its_worker_was_listed_as_idle_once_more(
    backend: Backend, storage: Storage
) -> None:
    """Two queues: rung by one of them, the worker asked both, got a job of the other, and disarmed."""
    rig = Rig(storage, ("q", "r"))
    bell = storage.bell("n.1", ["q", "r"])
    bell.arm()
    rig.lease(idle=True)
    rig.put("rings", queue="r")
    rig.put("found")
    got = [*rig.lease(2, idle=True), *bell.disarm()]
    bell.arm()
    got += [*rig.lease(2, idle=True), *bell.disarm()]
    assert sorted(ids(got)) == ["found", "rings"]
    assert sorted(ids(storage.holdings("n.1", ["q", "r"]))) == ["found", "rings"]
    bell.close()


def test_a_lock_was_never_free_again_whose_taking_was_confirmed_to_nobody(
    app: AppUnderFire, tmp_path: Path
) -> None:
    """The reply was lost, the job went back, and came again with another token: another owner."""

    @app.task(name="locked", lock="door", on_locked="requeue")
    def locked() -> str:
        return "through"

    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    entry, place = app.entry(locked.s()), PlainPlace()
    (tmp_path / "client.lock.after").write_text("error")
    first = runner.run(Lease(entry.id, "default", 1, entry.payload), place)
    assert (first.kind, first.reason) == ("retry", "interrupted")
    assert not (tmp_path / "client.lock.after").exists()
    again = runner.run(Lease(entry.id, "default", 2, entry.payload), place)
    assert (again.kind, again.reason) == ("ack", "")


def test_a_lock_in_a_users_code_was_held_by_nobody_after_a_lost_reply(
    app: AppUnderFire, tmp_path: Path
) -> None:
    (tmp_path / "client.lock.after").write_text("error")
    with pytest.raises(StorageUnavailable), app.lock_task("import"):
        pass
    with app.lock_task("import"):
        assert app.is_locked("import")

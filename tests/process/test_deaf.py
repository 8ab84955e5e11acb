"""A worker that lives and no longer consumes is found and replaced; a storage that is away is not its fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apps.changing import Changing, constant
from tests.support.rigs.daemon import Daemon
from tests.support.servers.redis_proxy import LossyProxy
from tests.support.servers.storages import open_backend
from tests.support.waiting import HANG_S, wait_until

OFTEN = """
from taskqd.storage.redis.keyspace import bell
bell.RedisBell.poll_s = 0.5
from taskqd.storage.redis.link.connection import Link
Link.__init__.__kwdefaults__["timeout_s"] = 1.0
"""
"""An idle worker asks its storage twice a second and waits a second for its answer, so that silence is
noticed early."""
UNRESPONSIVE_S = 5.0
STUCK = """
from taskqd.storage.sqlite.file import bell
bell.POLL_S = 0.5

from taskqd.worker.leasing.storage_client import StorageClient
turn = StorageClient.turn

def stuck_turn(self, limit, *, idle=False):
    if os.path.exists(f"blocked.{os.getpid()}"):
        time.sleep(600)
    if os.path.exists(f"stuck.{os.getpid()}"):
        time.sleep(0.1)
        return []
    return turn(self, limit, idle=idle)

StorageClient.turn = stuck_turn
"""
"""A worker that has a file goes on beating, and thinks that its queues are empty, or stands still."""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[Changing, LossyProxy]]:
    with open_backend("redis", tmp_path) as backend:
        with LossyProxy(backend.url.removeprefix("unix://")) as between:
            app = Changing(tmp_path, backend.url)
            app.write_source(1, OFTEN)
            app.url = between.url
            yield app, between
            app.close()


def daemon_of(app: Changing) -> Daemon:
    return app.daemon(
        constant("state.observation.UNRESPONSIVE_S", UNRESPONSIVE_S),
        constant("policy.faults.WORKER_BEAT_S", 5.0),
        shutdown={"grace_s": 2},
    )


def test_a_worker_whose_connections_lead_nowhere_is_replaced_and_its_job_runs_again(
    proxy: tuple[Changing, LossyProxy],
) -> None:
    app, between = proxy
    with daemon_of(app) as daemon:
        daemon.wait("master.ready")
        results = [app.write(n, 1.5) for n in range(2)]
        wait_until(lambda: daemon.ask("status")["busy"] == 2)
        lost = daemon.worker_pids()[0]
        between.swallow = lambda pid: pid == lost
        told = daemon.wait("worker.deaf")
        assert "no answer from the storage for" in told["reason"]
        assert daemon.ask("probe", probe="live")["up"]
        assert daemon.wait("worker.recycled")["reason"].startswith("deaf")
        assert [result.get(timeout=HANG_S) for result in results] == [1, 1]
        wait_until(lambda: lost not in daemon.worker_pids(), what="the deaf worker to go")
        assert set(app.written()) == {0, 1}
        assert app.runs() == 1

        before = set(daemon.worker_pids())
        between.swallow = lambda _pid: True
        wait_until(
            lambda: all(age > 1.5 * UNRESPONSIVE_S for age in silences(daemon)), what="silence"
        )
        between.swallow = lambda _pid: False
        assert app.runs() == 1
        assert set(daemon.worker_pids()) == before
        assert len(daemon.events("worker.deaf")) == 1
        assert daemon.stop() == 0


def silences(daemon: Daemon) -> list[float]:
    rows = daemon.ask("status")["workers"]
    return [row["heard_age_s"] for row in rows if row["state"] == "ready"]


def test_a_worker_that_beats_and_asks_for_nothing_is_replaced(tmp_path: Path) -> None:
    with open_backend("sqlite", tmp_path) as backend:
        app = Changing(tmp_path, backend.url)
        app.write_source(1, STUCK)
        with daemon_of(app) as daemon:
            daemon.wait("master.ready")
            stuck = daemon.worker_pids()[1]
            (app.folder / f"stuck.{stuck}").touch()
            recycled = daemon.wait("worker.recycled")
            assert recycled["reason"].startswith("deaf: no answer from the storage")
            wait_until(lambda: stuck not in daemon.worker_pids())
            assert [app.write(n, 0.0).get(timeout=HANG_S) for n in range(5)] == [1] * 5
            assert not daemon.events("worker.crashed")
            assert daemon.stop() == 0
        app.close()


def test_a_worker_whose_loop_is_blocked_is_killed_with_its_stack_and_its_job_runs_again(
    tmp_path: Path,
) -> None:
    with open_backend("sqlite", tmp_path) as backend:
        app = Changing(tmp_path, backend.url)
        app.write_source(1, STUCK)
        with daemon_of(app) as daemon:
            daemon.wait("master.ready")
            result = app.write(1, 60.0)
            started = daemon.wait("job.started")
            (app.folder / f"blocked.{started['pid']}").touch()
            hung = daemon.wait("worker.hung")
            assert "no beat" in hung["reason"]
            assert "stuck_turn" in daemon.wait_stack(hung)
            assert result.get(timeout=HANG_S) == 1
            assert app.written() == [1]
            assert daemon.stop() == 0
        app.close()

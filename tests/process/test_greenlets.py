"""Workers of greenlets: the app sees a patched library, the worker's own threads do not."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import JobCancelled, TaskFailed
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.servers.storages import open_backend
from tests.support.servers.tls import tls_server
from tests.support.waiting import HANG_S, wait_until

pytest.importorskip("gevent")

INTERRUPTED = [2, 0, 1, 0]
"""attempt, failures, interruptions, crashes"""
BOTH = pytest.mark.parametrize("green", ["sqlite", "redis"], indirect=True)
GREEN = {"count": 1, "type": "greenlet", "concurrency": 8}


class Green(Shop):
    """The same, over `tests/support/apps/green.py`."""

    tasks: Any

    def daemon(self, *constants: str, env: dict[str, str] | None = None, **changes: Any) -> Daemon:
        changes = {"app": "tests.support.apps.green:app", "workers": GREEN, **changes}
        return super().daemon(*constants, env=env, **changes)


@pytest.fixture(params=["sqlite"])
def green(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Green]:
    with open_backend(request.param, tmp_path) as backend, open_green(tmp_path, backend.url) as it:
        yield it


@contextmanager
def open_green(folder: Path, url: str) -> Iterator[Green]:
    with open_shop(folder, url):
        opened = Green(folder, url)
        opened.tasks = importlib.import_module("tests.support.apps.green")
        yield opened
        opened.tasks.app.close()


@BOTH
def test_the_app_is_imported_with_a_patched_library_and_the_master_is_not(green: Green) -> None:
    with green.open() as daemon:
        patched = green.tasks.what_is_patched().get(timeout=HANG_S)
        assert patched == ["socket", "threading", "time", "select"]
        assert green.tasks.kind_of_socket().get(timeout=HANG_S) == "gevent._socket3"
        assert daemon.wait("worker.ready")["loop"] == "gevent"
        assert "gevent" not in Path(f"/proc/{daemon.pid}/maps").read_text()
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log_text()


@BOTH
def test_jobs_that_wait_for_each_other_all_go_on(green: Green) -> None:
    tasks = green.tasks
    with green.open() as daemon:
        assert tasks.asks_from_a_thread(7).get(timeout=HANG_S) == 7
        results = [tasks.asks_another(n) for n in range(6)]
        results += [tasks.each(n) for n in range(6, 12)]
        assert [result.get(timeout=HANG_S) for result in results] == list(range(12))
        idents = {result.get(timeout=HANG_S) for result in [tasks.locked("door") for _ in range(4)]}
        assert len(idents) == 4
        assert daemon.stop() == 0


@BOTH
@pytest.mark.parametrize("task", ["meets", "ameets"])
def test_each_greenlet_sees_its_own_job(green: Green, task: str) -> None:
    with green.open() as daemon:
        results = [getattr(green.tasks, task)(4) for _ in range(4)]
        for result in results:
            answer = result.get(timeout=HANG_S)
            expected = [result.id, result.id, "kept"] if task == "meets" else result.id
            assert answer == expected
        assert daemon.stop() == 0


def test_a_greenlet_that_sleeps_past_its_timeout_is_stopped_alone(green: Green) -> None:
    with green.open(shutdown={"grace_s": 1}) as daemon:
        holding, late = green.tasks.holds_on(1), green.tasks.sleeps_too_long()
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than"):
            late.get(timeout=HANG_S)
        assert green.info(late)["reason"] == "timeout"
        assert green.notes().count("cleaned sleeper") == 1
        assert holding.info()["state"] == "running"
        assert not daemon.events("worker.hung")
        assert len(daemon.events("worker.ready")) == 1
        assert daemon.stop() == 0


def test_soft_timeouts_revocations_and_coroutines_end_where_they_wait(green: Green) -> None:
    tasks = green.tasks
    with green.open() as daemon:
        revoked, soft, late = tasks.holds_on(1), tasks.sleeps_softly(), tasks.awaits_too_long()
        green.begun(1)
        revoked.revoke()
        with pytest.raises(JobCancelled, match="revoked"):
            revoked.get(timeout=HANG_S)
        assert "soft_timeout of 0.5 s" in soft.get(timeout=HANG_S)
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than its timeout of 0.5 s"):
            late.get(timeout=HANG_S)
        assert {"cleaned 1", "cleaned coroutine"} <= {*green.notes()}
        assert len(daemon.events("worker.ready")) == 1
        assert daemon.stop() == 0


def test_a_greenlet_that_holds_the_loop_times_out_and_its_siblings_are_interrupted(
    green: Green,
) -> None:
    """It went back as interrupted with them, without end."""
    with green.open(shutdown={"grace_s": 30}) as daemon:
        holding = [green.tasks.holds_on(n) for n in range(2)]
        green.begun(2)
        late = green.tasks.computes_too_long()
        with pytest.raises(TaskFailed, match="TaskTimeout: ran longer than"):
            late.get(timeout=HANG_S)
        assert [result.get(timeout=HANG_S) for result in holding] == [INTERRUPTED] * 2
        assert green.info(late)["attempts"] == 1
        hung = daemon.wait("worker.hung")
        assert hung["task"].endswith("computes_too_long")
        assert "computes_too_long" in daemon.wait_stack(hung)
        assert daemon.stop() == 0


def test_a_stop_interrupts_greenlets_where_they_wait(green: Green) -> None:
    with green.open(shutdown={"grace_s": 2}) as daemon:
        results = [green.tasks.holds_on(n) for n in range(4)]
        green.begun(4)
        assert daemon.stop() == 0
        wait_until(lambda: sum(note.startswith("cleaned") for note in green.notes()) == 4)
    with green.open() as daemon:
        assert [result.get(timeout=HANG_S) for result in results] == [INTERRUPTED] * 4
        assert daemon.stop() == 0


def test_the_pump_goes_on_while_a_job_computes(green: Green) -> None:
    """What has not started is given back to workers that can run it."""
    with green.open(workers={"count": 2}) as daemon:
        green.tasks.computes_too_long.options()()
        green.begun(1)
        assert [green.tasks.one(n).get(timeout=HANG_S) for n in range(20)] == list(range(20))
        daemon.wait("worker.hung")
        assert daemon.stop() == 0


def test_without_gevent_the_daemon_names_the_extra(green: Green) -> None:
    hidden = green.folder / "hidden"
    (hidden / "gevent").mkdir(parents=True)
    (hidden / "gevent" / "__init__.py").write_text("raise ImportError('hidden')")
    path = f"{hidden}{os.pathsep}{Path(__file__).parents[2]}"
    with green.daemon(env={"PYTHONPATH": path}) as daemon:
        assert daemon.exit_code() == 78
        assert "pip install 'taskqd[gevent]'" in daemon.events("app.rejected")[0]["error"]
    assert sys.modules["gevent"].__file__ != str(hidden / "gevent" / "__init__.py")


def test_a_connection_with_tls_stays_in_the_thread_that_has_opened_it(tmp_path: Path) -> None:
    """Gevent's TLS refused to be used by the thread that the storage was handed to."""
    with tls_server(tmp_path) as (url, certificate):
        trusted = f"{url}?ssl_ca_certs={certificate}"
        with open_green(tmp_path, trusted) as green, green.open() as daemon:
            assert [green.tasks.asks_another(n).get(timeout=HANG_S) for n in range(3)] == [0, 1, 2]
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.log_text()


def test_handlers_were_never_told_of_what_the_worker_s_loop_had_enqueued(green: Green) -> None:
    """They were called in a greenlet of its thread, which lets none run."""
    with green.open() as daemon:
        results = green.tasks.app.enqueue(green.tasks.one.s(1).then(green.tasks.one))
        assert results.get(timeout=HANG_S) == [1, 1]
        name = green.tasks.one.name
        wait_until(lambda: green.notes().count(f"told {name}") == 2)
        assert daemon.stop() == 0

"""What an app does at import that a fork would break: it is named, and the workers work all the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.apps.changing import Changing
from tests.support.rigs.daemon import Daemon
from tests.support.servers.storages import open_backend
from tests.support.waiting import HANG_S

THREAD = """
import threading
threading.Thread(target=threading.Event().wait, name="pusher", daemon=True).start()
"""
NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)
"""
LOOK = """
@app.task(name="threads")
def threads() -> list[str]:
    import threading
    return [thread.name for thread in threading.enumerate()]
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Changing]:
    with open_backend("sqlite", tmp_path) as backend:
        changing = Changing(tmp_path, backend.url)
        yield changing
        changing.close()


def threads_of_a_worker(app: Changing) -> list[str]:
    return app.app.task(name="threads")(list)().get(timeout=HANG_S)  # type: ignore[no-any-return]


def ready(daemon: Daemon) -> Daemon:
    daemon.wait("master.ready")
    return daemon


def test_workers_of_an_app_with_a_thread_are_new_interpreters_that_have_it_too(
    app: Changing,
) -> None:
    app.write_source(1, THREAD + LOOK)
    with app.daemon() as daemon:
        ready(daemon)
        assert app.runs() == 1
        (told,) = daemon.events("zygote.unsafe")
        assert (told["offenders"], told["children"]) == (["thread pusher"], "new interpreters")
        assert daemon.ask("status")["unsafe"] == ["thread pusher"]
        assert "pusher" in threads_of_a_worker(app)
        psutil.Process(daemon.worker_pids()[0]).kill()
        daemon.wait("worker.ready", count=3)
        assert len(daemon.events("zygote.unsafe")) == 1
        assert daemon.stop() == 0
        assert daemon.no_process_is_left()


def test_who_wants_to_fork_all_the_same_is_warned(app: Changing) -> None:
    app.write_source(1, THREAD + LOOK)
    with app.daemon(workers={"fork": "always"}) as daemon:
        ready(daemon)
        assert daemon.events("zygote.unsafe")[0]["children"] == "forked all the same"
        assert "pusher" not in threads_of_a_worker(app)
        assert daemon.stop() == 0


def test_a_thread_that_python_does_not_know_is_found_as_well(app: Changing) -> None:
    app.write_source(1, NATIVE)
    with app.daemon() as daemon:
        ready(daemon)
        told = daemon.wait("zygote.unsafe")
        assert "native" in told["offenders"][0]
        assert told["children"] == "new interpreters"
        assert app.runs() == 1
        assert daemon.stop() == 0


def test_a_connection_made_at_import_is_named_with_its_peer(app: Changing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lines = f"import socket\nkept = socket.create_connection(('127.0.0.1', {port}))"
        app.write_source(1, lines)
        with app.daemon() as daemon:
            ready(daemon)
            told = daemon.wait("zygote.unsafe")
            assert f"connected to ('127.0.0.1', {port})" in told["offenders"][0]
            assert told["children"] == "forked all the same"
            assert app.runs() == 1
            assert daemon.stop() == 0


BROKEN_IN_WORKERS = """
if "exec_child" in open("/proc/self/cmdline").read():
    raise RuntimeError("only once")
"""


def test_an_app_that_imports_in_the_zygote_only_is_told_of_by_its_workers(app: Changing) -> None:
    app.write_source(1, BROKEN_IN_WORKERS)
    with app.daemon(workers={"fork": "never"}) as daemon:
        assert daemon.exit_code() == 70
        failed = daemon.events("worker.boot_failed")[0]
        assert (failed["step"], failed["error"]) == ("import", "RuntimeError: only once")


def test_a_reload_reaches_workers_that_import_the_app_themselves(app: Changing) -> None:
    with app.daemon(workers={"fork": "never"}) as daemon:
        ready(daemon)
        app.write_source(2)
        daemon.send("SIGHUP")
        daemon.wait("master.reloaded")
        assert app.runs() == 2
        assert daemon.stop() == 0


def test_the_kernel_is_told_to_take_a_worker_and_not_the_master(app: Changing) -> None:
    with app.daemon() as daemon:
        ready(daemon)
        master = score(daemon.pid)
        assert [score(pid) for pid in daemon.worker_pids()] == [min(1000, master + 500)] * 2
        assert daemon.stop() == 0


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

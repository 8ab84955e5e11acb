"""Defects of the daemon that chaos has found, each by what went wrong."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskqd import App
from tests.support.rigs.daemon import ROOT, Daemon
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S, wait_until

APP = """
import os
import signal
import time
from dataclasses import dataclass
from taskqd import App, current_job

app = App("regress")

@dataclass
class Deadly:
    how: str

    def __post_init__(self):
        if "SPARED" not in os.environ and self.how == "exit":
            os._exit(9)
        if "SPARED" not in os.environ and self.how == "raise":
            raise RuntimeError("no such thing")

@app.task
def take(deadly: Deadly) -> str:
    return deadly.how

@app.task
def ping() -> str:
    return "pong"

@app.task(lock="door", on_locked="requeue")
def locked(path: str) -> str:
    open(path + ".in", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return "through"

@app.task
async def whoami() -> str:
    return current_job().id

if __name__ == "__main__":
    import sys
    what = (sys.argv[1:] or ["ping"])[0]
    if what == "whoami":
        results = [whoami() for _ in range(5)]
        print([result.get(timeout=60) == result.id for result in results])
    elif what == "locked":
        result = locked(sys.argv[2])
        print(result.get(timeout=60) if sys.argv[3:] else result.id)
    elif what == "many":
        for _ in range(20):
            ping.map([()] * 200).get(timeout=60)
        print("done")
    else:
        call = ping.s() if what == "ping" else take.s(Deadly(what))
        print(app.enqueue(call).get(timeout=60))
"""


def client(folder: Path, *args: str, url: str = "") -> str:
    """Enqueue a job of `APP` and return the last line of what came of it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SPARED": "1"}
    env["TASKQD_STORAGE"] = url or f"sqlite:///{folder}/regress.db"
    argv = [sys.executable, "regress.py", *args]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def daemon_of(folder: Path, *flags: str, url: str = "") -> Daemon:
    """Return a daemon of `APP`, on SQLite unless a URL is given."""
    (folder / "regress.py").write_text(APP)
    argv = ["taskqd", "regress:app", "--health", "off", "--log-format", "json", *flags]
    env = {
        "TASKQD_STORAGE": url or f"sqlite:///{folder}/regress.db",
        "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
    }
    return Daemon(folder, [sys.executable, "-m", *argv], env=env)


def test_a_signal_while_the_interpreter_ended_turned_exit_0_into_a_death_by_signal(
    tmp_path: Path,
) -> None:
    with daemon_of(tmp_path, "--workers", "1") as daemon:
        daemon.wait("master.ready")
        daemon.send("SIGTERM")
        until_s = time.monotonic() + HANG_S
        while daemon.process and daemon.process.poll() is None and time.monotonic() < until_s:
            with contextlib.suppress(ProcessLookupError):
                daemon.send("SIGTERM")
            time.sleep(0.0005)
        assert daemon.exit_code() == 0


def test_a_job_whose_arguments_kill_the_worker_that_decodes_them_killed_workers_for_ever(
    tmp_path: Path,
) -> None:
    """Decoding runs users' code: the job has to be on the board before."""
    with daemon_of(tmp_path, "--workers", "1") as daemon:
        daemon.wait("master.ready")
        assert client(tmp_path, "exit").startswith("taskqd.errors.JobDead: poisoned")
        assert len(daemon.events("worker.crashed")) == 3
        assert client(tmp_path) == "pong"
        assert daemon.stop() == 0


def test_arguments_that_raise_what_they_like_when_they_are_decoded_cost_the_worker(
    tmp_path: Path,
) -> None:
    with daemon_of(tmp_path, "--workers", "1") as daemon:
        daemon.wait("master.ready")
        assert client(tmp_path, "raise").startswith("taskqd.errors.JobDead: rejected")
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0


@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_coroutine_saw_the_job_that_its_slot_had_run_first(tmp_path: Path, kind: str) -> None:
    with daemon_of(tmp_path, "--workers", "1", "--worker-type", kind) as daemon:
        daemon.wait("master.ready")
        assert client(tmp_path, "whoami") == str([True] * 5)
        assert daemon.stop() == 0


def test_asking_healthy_workers_for_their_stacks_crashed_them(tmp_path: Path) -> None:
    """The stacks of threads that run were read while they changed."""
    with daemon_of(tmp_path, "--workers", "2") as daemon:
        daemon.wait("master.ready")
        over = threading.Event()

        def ask() -> None:
            while not over.wait(0.005):
                daemon.send("SIGUSR2")

        asker = threading.Thread(target=ask)
        asker.start()
        assert client(tmp_path, "many") == "done"
        over.set()
        asker.join()
        assert not daemon.events("worker.crashed")
        assert "worker/leasing/loop.py" in daemon.wait("worker.stacks", worker=0)["stack"]
        assert daemon.stop() == 0


def test_a_lock_was_never_freed_whose_job_ended_while_the_storage_was_away(tmp_path: Path) -> None:
    with (
        RedisServer(appendfsync="always") as server,
        daemon_of(tmp_path, "--workers", "2", url=server.url) as daemon,
    ):
        daemon.wait("master.ready")
        first, second = str(tmp_path / "first"), str(tmp_path / "second")
        Path(second).touch()
        client(tmp_path, "locked", first, url=server.url)
        wait_until(lambda: Path(first + ".in").exists())
        server.kill()
        Path(first).touch()
        # Its end is logged once the storage has taken it; until then it is only tried.
        wait_until(lambda: daemon.events("storage.lost"))
        server.start()
        assert client(tmp_path, "locked", second, "wait", url=server.url) == "through"
        assert daemon.stop() == 0


def test_a_caller_that_waited_got_an_error_as_soon_as_the_storage_was_away(tmp_path: Path) -> None:
    with RedisServer(appendfsync="always") as server:
        app = App("waits", server.url)

        @app.task
        def nothing() -> None:
            pass

        result = nothing()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(result.wait, HANG_S)
            wait_until(lambda: len(server.client().client_list()) >= 3)
            server.kill()
            server.start()
            assert app.revoke_by_id(result.id, queue=result.queue)
            assert waiting.result() is True
        app.close()


def test_a_job_was_handed_to_a_worker_that_had_left_while_the_storage_was_away(
    tmp_path: Path,
) -> None:
    """It said that it held nothing, although it could not know; nobody looked again."""
    with (
        RedisServer(appendfsync="always") as server,
        daemon_of(tmp_path, "--workers", "2", "--grace", "2", url=server.url) as daemon,
    ):
        daemon.wait("master.ready")
        wait_until(lambda: len(server.client().keys("*idle")) > 0)
        server.kill()
        assert daemon.ask("scale", count=1)["ok"]
        wait_until(lambda: daemon.events("worker.exited") + daemon.events("worker.crashed"))
        server.start()
        assert client(tmp_path, "many", url=server.url) == "done"
        assert daemon.stop() == 0

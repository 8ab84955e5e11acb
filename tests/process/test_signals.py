"""What signals to the master do, what `ps` shows, and what the kernel shows of the processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.apps import shop as tasks
from tests.support.apps.changing import Changing
from tests.support.descriptors import links_of
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, f"sqlite:///{tmp_path}/shop.db") as opened:
        yield opened


def titles(daemon: Daemon) -> list[str]:
    found = []
    for process in daemon.alive():
        try:
            found.append(" ".join(process.cmdline()).rstrip())
        except psutil.NoSuchProcess:
            continue
    return sorted(found)


def test_ttin_and_ttou_are_one_worker_more_and_one_fewer(shop: Shop) -> None:
    with shop.open() as daemon:
        for name, wanted in (("SIGTTIN", 3), ("SIGTTIN", 4), ("SIGTTOU", 3), ("SIGTTOU", 2)):
            daemon.send(name)
            scaled = daemon.wait("master.scaled", workers=wanted, by=name)
            assert scaled["workers"] == wanted
            wait_until(lambda count=wanted: len(daemon.worker_pids()) == count)
        assert daemon.stop() == 0


def test_ctrl_c_drains_and_again_ends_the_drain_and_reaches_no_worker(shop: Shop) -> None:
    with shop.open(shutdown={"grace_s": 60}) as daemon:
        result = tasks.hold(1)
        shop.begun(1)
        os.killpg(daemon.pid, signal.SIGINT)  # as a terminal does: the whole group
        assert daemon.wait("master.draining")["signal"] == "SIGINT"
        assert daemon.ask("status")["busy"] == 1
        os.killpg(daemon.pid, signal.SIGINT)
        assert daemon.exit_code() == 0
        assert not daemon.events("worker.crashed")
        assert shop.info(result)["interruptions"] == 1


def test_tstp_and_cont_are_quiet_and_resume(shop: Shop) -> None:
    with shop.open() as daemon:
        daemon.send("SIGTSTP")
        daemon.wait("master.quieted", by="SIGTSTP")
        waiting = tasks.quick(1)
        assert daemon.ask("status")["state"] == "quiet"
        daemon.send("SIGCONT")
        daemon.wait("master.resumed", by="SIGCONT")
        assert waiting.get(timeout=HANG_S) == 1
        assert daemon.stop() == 0


def test_after_usr1_every_process_writes_to_the_new_log_file(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "taskqd.logs.setup"
    with shop.daemon(log={"format": "json", "level": "info", "file": str(path)}) as daemon:
        wait_until(lambda: "master.ready" in path.read_text() if path.exists() else False)
        path.rename(tmp_path / "taskqd.logs.setup.1")
        daemon.send("SIGUSR1")
        wait_until(path.exists)

        def all_are_in_it() -> bool:
            tasks.quick(1).get(timeout=HANG_S)
            text = path.read_text()
            return all(f'"role":"worker","pid":{pid}' in text for pid in daemon.worker_pids())

        wait_until(all_are_in_it)
        daemon.send("SIGUSR2")
        wait_until(lambda: "worker.stacks" in path.read_text())
        old = (tmp_path / "taskqd.logs.setup.1").read_text()
        tasks.quick(1).get(timeout=HANG_S)
        assert (tmp_path / "taskqd.logs.setup.1").read_text() == old

        path.rename(tmp_path / "taskqd.logs.setup.2")
        path.mkdir()
        daemon.send("SIGUSR1")  # a log that cannot be opened again was told nobody
        wait_until(lambda: "log.reopen_failed" in (tmp_path / "taskqd.logs.setup.2").read_text())
        assert daemon.stop() == 0


def test_titles_tell_who_each_process_is_and_what_it_does(shop: Shop) -> None:
    with shop.open() as daemon:
        tasks.hold(1)
        shop.begun(1)
        busy = "taskqd: master [test] 2 workers, 1 busy"
        wait_until(lambda: busy in titles(daemon))
        wait_until(
            lambda: any(
                title.endswith("[busy] tests.support.apps.shop.hold") for title in titles(daemon)
            )
        )
        assert titles(daemon)[1] == "taskqd: scheduler"
        assert titles(daemon)[-1] == "taskqd: zygote 1"
        assert sum(title.endswith("[idle]") for title in titles(daemon)) == 1
        daemon.send("SIGTERM")
        daemon.send("SIGTERM")
        assert daemon.exit_code() == 0


def test_the_master_has_one_thread(shop: Shop) -> None:
    with shop.open(health={"bind": "127.0.0.1:0"}) as daemon:
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        assert daemon.ask("top")["ready"] == 2
        assert os.listdir(f"/proc/{daemon.pid}/task") == [str(daemon.pid)]
        assert daemon.stop() == 0


def test_the_master_holds_a_pidfd_of_each_child(shop: Shop) -> None:
    with shop.open() as daemon:
        held = set()
        for fd, link in links_of(daemon.pid).items():
            if link == "anon_inode:[pidfd]":
                info = Path(f"/proc/{daemon.pid}/fdinfo/{fd}").read_text()
                held.add(int(info.split("Pid:")[1].split()[0]))
        status = daemon.ask("status")
        workers = {row["pid"] for row in status["workers"]}
        assert held >= workers | {status["scheduler"]["pid"]}
        assert daemon.stop() == 0


HEAVY = """
import gc
DATA = [{"id": n, "tags": [n]} for n in range(150_000)]

@app.task(name="private_mb")
def private_mb() -> float:
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        lines = [line.split() for line in file]
    return sum(int(words[1]) for words in lines if words[0].startswith("Private_")) / 1000
"""


def test_a_collection_in_a_worker_copies_nothing_of_the_preloaded_app(tmp_path: Path) -> None:
    changing = Changing(tmp_path, f"sqlite:///{tmp_path}/heavy.db")
    changing.write_source(extra=HEAVY)

    @changing.app.task(name="private_mb")
    def private_mb() -> float:
        raise AssertionError("a daemon runs it")

    with changing.daemon() as daemon:
        daemon.wait("master.ready")
        used = private_mb().get(timeout=HANG_S)
        assert used < 20, used
        assert daemon.stop() == 0
    changing.close()

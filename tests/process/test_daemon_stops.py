"""The whole daemon on real storages: a stop loses nothing, blames nobody, and ends in time."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.apps import shop as tasks
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S


def test_jobs_longer_than_the_grace_are_queued_again_and_a_second_daemon_ends_them(
    shop: Shop,
) -> None:
    with shop.open(shutdown={"grace_s": 2}) as first:
        results = [tasks.hold(n) for n in range(2)]
        shop.begun(2)
        results += [tasks.nap(n, 0.0) for n in range(4)]
        assert first.stop() == 0
        stopped = first.events("master.stopped")[0]
        assert stopped["took_s"] < 10
        assert stopped["interrupted"] == 2
    with shop.open() as second:
        histories = [result.get(timeout=HANG_S) for result in results]
        interrupted = [h for h in histories if h["interruptions"]]
        assert interrupted == [{"attempt": 2, "failures": 0, "interruptions": 1, "crashes": 0}] * 2
        assert second.stop() == 0


def test_a_job_shorter_than_the_grace_ends_in_peace(shop: Shop) -> None:
    with shop.open(shutdown={"grace_s": 20}) as daemon:
        result = tasks.nap(1, 1.0)
        shop.begun(1)
        assert daemon.stop() == 0
        assert result.get(timeout=1)["attempt"] == 1
        assert daemon.events("master.stopped")[0]["interrupted"] == 0


def test_what_has_not_started_is_handed_back_at_once(shop: Shop) -> None:
    with shop.open(workers={"count": 1}, shutdown={"grace_s": 600}) as daemon:
        tasks.hold(0)
        waiting = [tasks.quick(n) for n in range(10)]
        shop.begun(1)
        daemon.send("SIGTERM")
        daemon.wait("master.draining")
        with shop.open(workers={"count": 1}, name="second") as second:
            # The first daemon still drains, and holds nothing back.
            assert [result.get(timeout=HANG_S) for result in waiting] == list(range(10))
            assert second.stop() == 0
        assert daemon.stop() == 0


def test_term_three_times_kills_now_and_still_gives_back(shop: Shop) -> None:
    with shop.open(shutdown={"grace_s": 600}) as daemon:
        results = [tasks.hold(n) for n in range(2)]
        for pid in shop.begun(2):
            # So that no job ends at the second signal, before the third.
            os.kill(pid, signal.SIGSTOP)
        for count in range(1, 4):
            daemon.send("SIGTERM")
            daemon.wait("signal.received", signal="SIGTERM", count=count)
        assert daemon.exit_code() == 0
    with shop.open() as second:
        for result in results:
            history = result.get(timeout=HANG_S)
            assert (history["interruptions"], history["crashes"]) == (1, 0)
        assert second.stop() == 0


def test_burst_ends_when_the_queues_are_empty(shop: Shop) -> None:
    results = [tasks.quick(n) for n in range(50)]
    with shop.daemon(burst=True) as daemon:
        assert daemon.exit_code() == 0
        assert [result.get(timeout=1) for result in results] == list(range(50))


def test_workers_can_be_added_and_taken_away(shop: Shop) -> None:
    with shop.open(shutdown={"grace_s": 2}) as daemon:
        assert daemon.ask("scale", count=3)["ok"]
        daemon.wait("worker.ready", count=3)
        daemon.send("SIGTTOU")
        daemon.wait("worker.exited", worker=2)
        assert "expected 1 to" in daemon.ask("scale", count=0)["error"]
        assert daemon.ask("status")["ready"] == 2
        assert daemon.stop() == 0


# -- a storage that is gone --------------------------------------------------------------------


def test_a_stop_ends_in_time_while_redis_is_gone(tmp_path: Path) -> None:
    with (
        RedisServer() as server,
        open_shop(tmp_path, server.url) as shop,
        shop.open(shutdown={"grace_s": 3}) as daemon,
    ):
        tasks.hold(1)
        shop.begun(1)
        server.kill()
        assert daemon.stop() == 0
        assert daemon.events("master.stopped")[0]["took_s"] < 10
        assert daemon.no_process_is_left()


def test_a_storage_that_is_not_there_at_start_ends_the_daemon_with_69(tmp_path: Path) -> None:
    shop = Shop(tmp_path, f"unix://{tmp_path}/nowhere.sock")
    storage = {"url": shop.url, "connect_wait_s": 1.0}
    with shop.daemon(storage=storage) as daemon:
        assert daemon.exit_code() == 69
        assert "storage not reached in 1 s" in daemon.events("master.failed")[0]["error"]


# -- PID 1 -------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="a pid namespace needs root here")
def test_as_pid_1_it_stops_at_term_with_jobs_given_back(shop: Shop) -> None:
    daemon = shop.daemon(shutdown={"grace_s": 2})
    daemon._argv = ["unshare", "--fork", "--pid", "--mount-proc", *daemon._argv]
    with daemon:
        started = daemon.wait("master.started")
        assert started["pid"] == 1
        daemon.wait("master.ready")
        result = tasks.hold(1)
        shop.begun(1)
        os.kill(master_of(daemon), 15)
        assert daemon.exit_code() == 0
        assert daemon.events("master.stopped")[0]["interrupted"] == 1
    with shop.open() as second:
        assert result.get(timeout=HANG_S)["interruptions"] == 1
        assert second.stop() == 0


def master_of(daemon: Daemon) -> int:
    """Return the pid of PID 1 as we see it: the child of unshare."""
    import psutil

    (master,) = psutil.Process(daemon.pid).children()
    return master.pid


# -- what it costs -----------------------------------------------------------------------------


def test_the_master_imports_no_storage_and_no_user_code(shop: Shop) -> None:
    with shop.open() as daemon:
        maps = Path(f"/proc/{daemon.pid}/maps").read_text()
        assert not [name for name in ("apsw", "hiredis", "_sqlite3") if name in maps]
        assert daemon.stop() == 0


def test_an_idle_master_hardly_wakes_up(shop: Shop) -> None:
    with shop.open() as daemon:
        daemon.ask("status")
        before = switches(daemon.pid)
        tasks.nap(1, 3.0).get(timeout=HANG_S)
        assert switches(daemon.pid) - before < 30
        assert daemon.stop() == 0


def switches(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError(sys.platform)

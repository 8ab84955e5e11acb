"""Waking over FIFOs: between processes, and with everything that can be wrong beside the file."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskqd.clock import now_ms
from taskqd.storage import open_storage
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.file.wake import STALE_S
from tests.support.rigs.rig import Rig, ack, ids
from tests.support.rigs.ring import rung
from tests.support.waiting import HANG_S, wait_until

SLEEPER = """
import json, select, sys
from taskqd.storage import open_storage
storage = open_storage(sys.argv[1], "app")
bell = storage.bell(sys.argv[2], ["q"])
rings = 0
print("ready", flush=True)
while True:
    leases = storage.turn(sys.argv[2], (), ["q"], 1).leases
    if not leases:
        bell.arm()
        leases = storage.turn(sys.argv[2], (), ["q"], 1, idle=True).leases
    if leases:
        bell.disarm()
        print(json.dumps([leases[0].id, rings]), flush=True)
        continue
    select.select([bell.fileno()], [], [])  # without the net: only a ring ends this sleep
    bell.answer()
    rings += 1
"""


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(open_storage(f"sqlite:///{tmp_path}/a.db?synchronous=normal", "app"))


def _sleeper(tmp_path: Path, worker: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, f"sqlite:///{tmp_path}/a.db", worker],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _armed(tmp_path: Path) -> int:
    """Return how many FIFOs of idle workers are open for reading."""
    count = 0
    for path in (tmp_path / "a.db-wake").glob("q*/*"):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        count += 1
    return count


def test_each_job_wakes_one_of_the_idle_processes_and_no_other(tmp_path: Path, rig: Rig) -> None:
    children = [_sleeper(tmp_path, f"n.{number}") for number in range(4)]
    try:
        wait_until(lambda: _armed(tmp_path) == 4, "all asleep")
        rings: dict[object, int] = {}
        for number in range(20):
            rig.put(f"j{number}")
            [ready], _, _ = select.select([one.stdout for one in children], [], [], HANG_S)
            assert ready is not None
            job_id, rings[ready] = json.loads(ready.readline())
            assert job_id == f"j{number}"
            wait_until(lambda: _armed(tmp_path) == 4, "all asleep again")
        assert sum(rings.values()) <= 20
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_a_worker_killed_while_idle_does_not_swallow_jobs(tmp_path: Path, rig: Rig) -> None:
    dead, alive = _sleeper(tmp_path, "n.1"), _sleeper(tmp_path, "n.2")
    wait_until(lambda: _armed(tmp_path) == 2, "both asleep")
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    try:
        rig.put("a")
        assert alive.stdout is not None
        assert select.select([alive.stdout], [], [], HANG_S)[0]
        assert json.loads(alive.stdout.readline())[0] == "a"
    finally:
        alive.kill()
        alive.communicate()


def test_what_the_dead_left_is_swept(tmp_path: Path, rig: Rig) -> None:
    bell = rig.storage.bell("n.1", ["q"])
    bell.arm()
    [left] = (tmp_path / "a.db-wake").glob("q*/*")
    long_ago = time.time() - STALE_S - 10
    os.utime(left, (long_ago, long_ago))
    rig.storage.purge(["q"], dead_ttl_s=100, dead_max=100)
    assert left.exists(), "its reader is alive"
    bell.disarm()
    rig.storage.purge(["q"], dead_ttl_s=100, dead_max=100)
    assert not left.exists()
    bell.arm()
    rig.put("a")
    assert select.select([bell.fileno()], [], [], HANG_S)[0]
    bell.close()
    assert list((tmp_path / "a.db-wake").glob("q*/*")) == []


def test_a_ring_that_comes_too_late_is_passed_on(tmp_path: Path, rig: Rig) -> None:
    other = open_storage(f"sqlite:///{tmp_path}/a.db", "app")
    busy, idle = rig.storage.bell("n.1", ["q"]), other.bell("n.2", ["q"])
    busy.arm()
    rig.put("a")
    assert ids(rig.storage.turn("n.1", (), ["q"], 1, idle=True)) == ["a"]
    rig.put("b")  # rings the one that has just got its work
    idle.arm()
    assert select.select([idle.fileno()], [], [], 0)[0] == []
    busy.disarm()
    rung(idle)
    assert ids(other.turn("n.2", (), ["q"], 1)) == ["b"]
    busy.close()
    idle.close()


def test_whoever_leaves_jobs_behind_wakes_the_next(tmp_path: Path, rig: Rig) -> None:
    other = open_storage(f"sqlite:///{tmp_path}/a.db", "app")
    rig.put("a", "b", "c")
    idle = other.bell("n.2", ["q"])
    idle.arm()
    assert select.select([idle.fileno()], [], [], 0)[0] == []
    rig.lease(1)
    assert select.select([idle.fileno()], [], [], HANG_S)[0]
    idle.close()


def test_without_fifos_an_idle_worker_asks_often(tmp_path: Path, rig: Rig) -> None:
    (tmp_path / "a.db-wake").write_text("in the way")
    bell = rig.storage.bell("n.1", ["q"])
    bell.arm()
    assert bell.fileno() == -1
    assert bell.poll_s <= 0.5
    rig.put("a")
    assert ids(rig.lease()) == ["a"]
    assert bell.disarm() == []
    started = time.monotonic()
    rig.storage.wait([("a", "q")], 0.3)
    assert time.monotonic() - started < HANG_S
    bell.close()


def test_a_waiter_without_fifos_finds_its_answer(tmp_path: Path, rig: Rig) -> None:
    (tmp_path / "a.db-wake").write_text("in the way")
    rig.end("a")
    rig.storage.wait([("a", "q")], HANG_S)
    assert rig.storage.answer("a", "q") is not None


def test_a_dead_waiters_fifo_is_named_and_swept(tmp_path: Path, rig: Rig) -> None:
    code = (
        "import sys; from taskqd.storage import open_storage\n"
        f"open_storage('sqlite:///{tmp_path}/a.db', 'app').wait([('a', 'q')], 100)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    folder = tmp_path / "a.db-wake"
    wait_until(lambda: list(folder.glob("w*/*")), "a waiter")
    child.kill()
    child.wait()
    assert [Path(name).name[:2] for name in rig.storage.leftovers()] == ["a~"]
    rig.put("a")
    rig.settle(*map(ack, rig.lease()))
    rig.storage.purge(["q"], dead_ttl_s=100, dead_max=100)
    assert list(rig.storage.leftovers()) == []


def test_schedulers_of_several_daemons_are_all_woken(tmp_path: Path, rig: Rig) -> None:
    other = open_storage(f"sqlite:///{tmp_path}/a.db", "app")
    bells = [rig.storage.timer_bell(["q"]), other.timer_bell(["q"])]
    for bell in bells:
        bell.arm()
    rig.put("a", run_at_ms=now_ms() + 50_000)
    for bell in bells:
        assert rung(bell) == []
        assert select.select([bell.fileno()], [], [], 0)[0] == []
        bell.close()


def test_a_full_load_sends_nothing(tmp_path: Path, rig: Rig) -> None:
    """Workers that are busy have no FIFO open, so there is nothing that could fill up."""
    bell = rig.storage.bell("n.1", ["q"])
    bell.arm()
    bell.disarm()
    rig.put(*(f"j{number}" for number in range(100)))
    bell.arm()
    assert select.select([bell.fileno()], [], [], 0)[0] == []
    assert isinstance(rig.storage, SqliteStorage)
    bell.close()

"""Many processes on one file: nobody is told of a lock, nobody starves, nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.storage import open_storage
from taskqd.storage.base import Node
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.file import connection as connections
from tests.support.rigs.rig import Rig, ack, entry, outcome
from tests.support.waiting import HANG_S, wait_until

WRITER = """
import sys
from taskqd.storage import open_storage
from tests.support.rigs.rig import Rig, ack
url, number, jobs = sys.argv[1:]
rig = Rig(open_storage(url, "app"), registered=True)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(int(jobs)):
    rig.put(f"w{number}-{turn}")
    print(f"w{number}-{turn}", flush=True)
    leases = rig.lease(worker=f"n.{number}")
    assert all(rig.settle(*(ack(lease) for lease in leases), worker=f"n.{number}"))
"""


def _writer(url: str, number: int, jobs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(number), str(jobs)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_sixteen_processes_write_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db?synchronous=normal"
    rig = Rig(open_storage(url, "app"))
    children = [_writer(url, number, 25) for number in range(16)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        _go(child)
    outputs = [child.communicate(timeout=100) for child in children]
    assert [error for _, error in outputs if error] == []
    told = [name for output, _ in outputs for name in output.split()]
    assert len(told) == 16 * 25
    while leases := rig.lease(100):
        rig.settle(*map(ack, leases))
    assert None not in rig.storage.answers([(name, "q") for name in told])


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    rig = Rig(open_storage(url, "app"))
    told: list[str] = []
    for number in range(6):
        child = _writer(url, number, 100_000)
        assert child.stdout is not None
        child.stdout.readline()
        _go(child)
        told += [child.stdout.readline().strip() for _ in range(10 + number)]
        child.send_signal(signal.SIGKILL)
        told += [name for name in child.stdout.read().split("\n")[:-1] if name]
        child.wait()
        child.communicate()
    rig.storage.recover_node("n", ["q"])
    rig.register("n")
    while leases := rig.lease(100):
        rig.settle(*map(ack, leases))
    assert None not in rig.storage.answers([(name, "q") for name in told])
    assert isinstance(rig.storage, SqliteStorage)
    assert rig.storage._db.rows("PRAGMA integrity_check") == [("ok",)]
    assert list(rig.storage.leftovers()) == []


def test_a_writer_that_hangs_with_the_lock_is_told_of_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    monkeypatch.setitem(connections.Database.__init__.__kwdefaults__, "busy_s", 0.2)
    other = open_storage(f"sqlite:///{tmp_path}/a.db", "app")
    assert isinstance(rig.storage, SqliteStorage)
    rig.storage._db.rows("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="kept it locked"):
        other.enqueue([entry("a")])
    assert time.monotonic() - started < HANG_S
    rig.storage._db.rows("ROLLBACK")
    assert other.enqueue([entry("a")]) == [True]


def test_readers_see_the_state_while_a_writer_writes(tmp_path: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    rig.put("a")
    other = open_storage(f"sqlite:///{tmp_path}/a.db", "app")
    assert isinstance(other, SqliteStorage)
    other._db.rows("BEGIN IMMEDIATE")
    assert rig.counts() == (1, 0, 0, 0)
    assert rig.storage.answer("a", "q") is None
    other._db.rows("ROLLBACK")


def test_an_error_inside_a_call_undoes_it_whole(tmp_path: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    rig.put("a", "b")
    first, second = rig.lease(2)
    with pytest.raises(ValueError, match="unknown kind"):
        rig.settle(ack(first), outcome(second, "eat"))
    assert rig.states() == {"a": "running", "b": "running"}
    assert rig.settle(ack(first), ack(second)) == [True, True]


def test_the_lease_of_a_node_outlives_a_jump_of_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    rig.put("a")
    rig.lease()
    late = time.time_ns() // 1_000_000 + 10**9
    monkeypatch.setattr("taskqd.storage.sqlite.rows.silent_nodes.now_ms", lambda: late)
    assert rig.storage.recover(["q"]) == []
    [row] = rig.storage.nodes()
    assert 500 < row.expires_in_s <= 600


def test_the_lease_of_a_node_of_another_boot_begins_anew_when_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock cannot be compared with ours, and the wall clock may have been set."""
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "taskqd.storage.sqlite.rows.silent_nodes.clock_name", lambda: "an earlier boot"
        )
        rig.storage.register(Node("old"), ["q"], 0.3)
        rig.storage.register(Node("young"), ["q"], 600)
        rig.put("a", "b")
        rig.lease(worker="old.1")
        rig.lease(worker="young.1")
    assert rig.storage.recover(["q"]) == []
    rows = wait_until(lambda: rig.storage.recover(["q"]), "recovery")
    assert [row.worker for row in rows] == ["old.1"]
    assert {row.node.id for row in rig.storage.nodes()} == {"n", "young"}


def test_a_node_that_renews_under_another_clock_is_never_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with a time namespace of its own."""
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db", "app"))
    for _ in range(20):
        with monkeypatch.context() as other:
            other.setattr(
                "taskqd.storage.sqlite.rows.silent_nodes.clock_name", lambda: "another clock"
            )
            rig.storage.register(Node("other"), ["q"], 0.001)
        assert rig.storage.recover(["q"]) == []


def test_threads_with_a_handle_each_do_not_disturb_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db?synchronous=normal"
    rig = Rig(open_storage(url, "app"))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = Rig(open_storage(url, "app"), registered=True)
            for turn in range(50):
                mine.put(f"t{number}-{turn}")
            mine.storage.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert errors == []
    assert rig.counts() == (400, 0, 0, 0)
    assert os.path.getsize(tmp_path / "a.db-wal") < 64 * 1024 * 1024

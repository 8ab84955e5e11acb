"""A file that is removed, moved away or replaced while it is in use: noticed, told, never served silently."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.jobs.job import State
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.file import shared_index
from taskqd.storage.sqlite.file.identity import Change
from taskqd.storage.sqlite.rows import base
from tests.support.rigs.rig import Rig, ack, entry, ids
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def rig(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(base, "LOOK_S", 0.0)
    opened = Rig(SqliteStorage(str(path), "shop"))
    yield opened
    opened.storage.close()


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


def _remove_database_only(path: Path) -> None:
    path.unlink()


def _move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def _move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


GONE = [_remove, _remove_database_only, _move, _move_folder]


@pytest.mark.parametrize("how", GONE)
def test_what_was_acknowledged_was_in_a_file_that_nobody_reads_again(
    rig: Rig, path: Path, how: Callable[[Path], None]
) -> None:
    rig.put("before")
    how(path)
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="removed or moved away"):
            rig.put("after")
    with pytest.raises(StorageUnavailable, match="removed or moved away"):
        rig.storage.queues()
    assert not path.exists(), "nothing is made anew while it is waited for"


def test_a_write_under_way_when_the_file_goes_is_not_acknowledged(
    rig: Rig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LOOK_S", 60.0)
    path.unlink()
    with pytest.raises(OutcomeUnknown, match="may be lost"):
        rig.put("a")


def test_a_new_process_does_not_make_a_file_that_others_wait_for(rig: Rig, path: Path) -> None:
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StorageUnavailable):
        rig.storage.queues()
    with pytest.raises(StorageUnavailable, match="while it is in use"):
        SqliteStorage(str(path), "shop")
    rig.storage.close()
    SqliteStorage(str(path), "shop").close()


def test_a_file_that_comes_back_is_gone_on_with(rig: Rig, path: Path) -> None:
    rig.put("a", "b")
    [lease] = rig.lease()
    path.rename(path.with_name("moved.db"))
    with pytest.raises(StorageUnavailable):
        rig.storage.queues()
    path.with_name("moved.db").rename(path)
    assert rig.settle(ack(lease)) == [True]
    assert ids(rig.lease()) == ["b"]
    assert list(rig.storage.leftovers()) == []


def test_what_stood_in_the_log_only_is_in_the_file_that_was_moved(rig: Rig, path: Path) -> None:
    rig.put("a")
    elsewhere = path.with_name("moved.db")
    path.rename(elsewhere)
    with pytest.raises(StorageUnavailable):
        rig.storage.queues()
    rig.storage.close()
    with sqlite3.connect(f"file:{elsewhere}?immutable=1", uri=True) as plain:
        assert plain.execute("SELECT id FROM job").fetchall() == [("a",)]


def test_a_file_that_replaced_the_one_in_use_is_another_storage(rig: Rig, path: Path) -> None:
    rig.put("old")
    epoch = rig.storage.epoch()
    other = SqliteStorage(str(path.with_name("other.db")), "shop")
    other.enqueue([entry("new")])
    other.close()
    os.replace(path.with_name("other.db"), path)
    with pytest.raises(StorageUnavailable, match="replaced by another file"):
        rig.storage.queues()
    assert rig.storage.epoch() != epoch
    assert rig.storage.heartbeat("n", ["q"], 60) is False
    rig.register("n")
    assert ids(rig.lease(9)) == ["new"]


def test_a_copy_that_replaced_the_one_in_use_has_what_it_had(rig: Rig, path: Path) -> None:
    """A backup is restored under a live daemon."""
    rig.put("a")
    with sqlite3.connect(path) as live, sqlite3.connect(path.with_name("copy.db")) as copy:
        live.backup(copy)
    rig.put("b")
    os.replace(path.with_name("copy.db"), path)
    with pytest.raises(StorageUnavailable, match=r"replaced|log"):
        rig.storage.queues()
    assert ids(rig.lease(9)) == ["a"]


@pytest.mark.parametrize("which", ["-wal", "-wal and -shm"])
def test_a_log_that_is_removed_loses_nothing_and_is_told(rig: Rig, path: Path, which: str) -> None:
    rig.put("a")
    for suffix in which.split(" and "):
        path.with_name(path.name + suffix).unlink()
    with pytest.raises(StorageUnavailable, match="write-ahead log"):
        rig.storage.queues()
    rig.put("b")
    assert ids(rig.lease(9)) == ["a", "b"]
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_index_of_the_log_that_is_removed_loses_nothing_and_is_told(
    rig: Rig, path: Path
) -> None:
    rig.put("a")
    path.with_name(f"{path.name}-shm").unlink()
    with pytest.raises(StorageUnavailable, match="index of its write-ahead log"):
        rig.storage.queues()
    rig.put("b")
    assert ids(rig.lease(9)) == ["a", "b"]
    assert _is_sound(path)


def _is_sound(path: Path) -> bool:
    with sqlite3.connect(path) as plain:
        found: bool = plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return found


def _in_another_process(path: Path, *lines: str) -> subprocess.Popen[str]:
    """Start a process that has the storage open; it says what `lines` print, and ends with its input."""
    script = "\n".join(
        [
            "import os, sys",
            "from taskqd.errors import StorageError",
            "from taskqd.storage.sqlite import SqliteStorage",
            "from tests.support.rigs.rig import entry",
            "storage = SqliteStorage(sys.argv[1], 'shop')",
            "print('open', flush=True)",
            *lines,
            "sys.stdin.read()",
        ]
    )
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=pipe, stdout=pipe, text=True
    )


def _says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_who_came_after_the_index_was_removed_destroyed_the_database(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made another index, and had no lock in common with those before it."""
    monkeypatch.setattr(shared_index, "LEFT_S", 0.1)
    with _in_another_process(path) as holder:
        assert _says(holder) == "open"
        path.with_name(f"{path.name}-shm").unlink()
        with pytest.raises(StorageUnavailable, match="-shm was removed or replaced"):
            SqliteStorage(str(path), "shop")
        holder.communicate(timeout=HANG_S)
    late = SqliteStorage(str(path), "shop")
    late.enqueue([entry("late")])
    late.close()
    assert _is_sound(path)


def test_processes_that_write_leave_an_index_that_was_removed_and_go_on(path: Path) -> None:
    lines = (
        "written = 0",
        "while written < 150:",
        "    try:",
        "        storage.enqueue([entry(f'{os.getpid()}-{written}')])",
        "        written += 1",
        "    except StorageError:",
        "        pass",
        "    if written == 30:",
        "        print('writes', flush=True)",
        "print('done', flush=True)",
    )
    first, second = _in_another_process(path, *lines), _in_another_process(path, *lines)
    with first, second:
        for process in (first, second):
            assert (_says(process), _says(process)) == ("open", "writes")
        path.with_name(f"{path.name}-shm").unlink()
        with _in_another_process(path, *lines) as third:
            for process in (first, second, third):
                wait_until(lambda process=process: _says(process) == "done")
            third.communicate(timeout=HANG_S)
        for process in (first, second):
            process.communicate(timeout=HANG_S)
    assert _is_sound(path)


def test_an_idle_thread_does_not_keep_its_process_from_opening_the_file_again(
    rig: Rig, path: Path
) -> None:
    idle = SqliteStorage(str(path), "shop")
    idle.enqueue([entry("a")])
    path.with_name(f"{path.name}-shm").unlink()
    with pytest.raises(StorageUnavailable):
        rig.storage.queues()
    rig.put("b")
    with pytest.raises(StorageUnavailable, match="index of its write-ahead log"):
        idle.queues()
    assert ids(rig.lease(9)) == ["a", "b"]
    assert [row.running for row in idle.queues()] == [2]
    idle.close()
    assert _is_sound(path)


def test_a_connection_whose_close_fails_keeps_no_lock(path: Path) -> None:
    path.touch()

    def failing() -> None:
        raise OSError("the disk fails")

    use = shared_index.connect(str(path), lambda: failing)
    with pytest.raises(OSError, match="the disk fails"):
        shared_index.leave(use, failing)
    assert use.inode not in shared_index._uses


def test_a_child_that_was_forked_keeps_no_lock_of_its_parents(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_index, "LEFT_S", 0.1)
    storage = SqliteStorage(str(path), "shop")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    storage.close()
    SqliteStorage(str(path), "shop").close()
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0


def _by_another_program(path: Path, *lines: str) -> None:
    """Two SQLite libraries in one process would take each other's locks: this one closes what it opens."""
    script = "\n".join(
        ["import sqlite3, sys", "live = sqlite3.connect(sys.argv[1])", *lines, "live.close()"]
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=HANG_S)


def _vacuum(path: Path) -> None:
    _by_another_program(path, "live.execute('VACUUM')")


def _backup_into(path: Path) -> None:
    _by_another_program(
        path, "copy = sqlite3.connect(':memory:')", "live.backup(copy)", "copy.backup(live)"
    )


def _link(path: Path) -> None:
    os.link(path, path.with_name("linked.db"))


def _open_elsewhere(path: Path) -> None:
    other = SqliteStorage(str(path), "shop")
    other.enqueue([entry("other")])
    other.close()


def _checkpoint(path: Path) -> None:
    _by_another_program(path, "live.execute('PRAGMA wal_checkpoint(TRUNCATE)')")


HARMLESS = [_vacuum, _backup_into, _link, _open_elsewhere, _checkpoint]


@pytest.mark.parametrize("what", HARMLESS)
def test_what_leaves_the_file_in_its_place_raises_no_alarm(
    rig: Rig, path: Path, what: Callable[[Path], None]
) -> None:
    rig.put("a")
    what(path)
    rig.put("b")
    assert {"a", "b"} <= {row.id for row in rig.storage.jobs(State.QUEUED)}


def test_a_symbolic_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LOOK_S", 0.0)
    (tmp_path / "data").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "data" / "real.db")
    one = Rig(SqliteStorage(str(tmp_path / "link.db"), "shop"))
    two = SqliteStorage(str(tmp_path / "data" / "real.db"), "shop")
    one.put("a")
    two.enqueue([entry("b")])
    assert ids(one.lease(9)) == ["a", "b"]
    (tmp_path / "data" / "real.db-shm").unlink()
    for storage in (one.storage, two):
        with pytest.raises(StorageUnavailable, match="index"):
            storage.queues()
    assert two.queues() == one.storage.queues()
    shutil.move(tmp_path / "data" / "real.db", tmp_path / "moved.db")
    for storage in (one.storage, two):
        with pytest.raises(StorageUnavailable, match="moved away"):
            storage.queues()
        storage.close()


def test_a_second_connection_of_a_process_gave_up_the_locks_of_its_first(
    rig: Rig, path: Path
) -> None:
    """The lock says that the log is in use: without it another program removed the log as it went."""
    assert _is_locked(path)
    second = SqliteStorage(str(path), "shop")
    assert _is_locked(path)
    rig.put("a")
    second.close()


def _is_locked(path: Path) -> bool:
    inode = f":{path.stat().st_ino}"
    with open("/proc/locks", encoding="ascii") as locks:
        return any(word.endswith(inode) for line in locks for word in line.split())


def test_idle_storages_notice_it_by_looking(path: Path) -> None:
    """Within the interval of a look, not at every call."""
    rig = Rig(SqliteStorage(str(path), "shop"))
    path.unlink()
    wait_until(lambda: _is_noticed(rig), "the loss to be noticed")
    rig.storage.close()


def _is_noticed(rig: Rig) -> bool:
    try:
        rig.storage.queues()
    except StorageUnavailable as error:
        return Change.GONE in str(error) or "removed or moved away" in str(error)
    return False

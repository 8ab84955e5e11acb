"""A disk that fails reads, writes and syncs: what was acknowledged is there, and nobody gets a driver's error."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from taskqd.errors import OutcomeUnknown, StorageError, StorageRefused, StorageUnavailable
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.file import connection as connections
from tests.support.rigs.rig import Rig, ack, entry, ids

FAULTS = {
    "EIO of a write": ("write", apsw.SQLITE_IOERR_WRITE),
    "ENOSPC of a write": ("write", apsw.SQLITE_FULL),
    "EIO of an fsync": ("sync", apsw.SQLITE_IOERR_FSYNC),
    "EIO of a read": ("read", apsw.SQLITE_IOERR_READ),
}
STEPS_MAX = 200


class Disk(apsw.VFS):
    """That of the host, with one fault to come."""

    def __init__(self) -> None:
        self.operation = ""
        self.code = 0
        self.spared = 0
        """How many operations go well before."""
        self.has_failed = False
        super().__init__("faulty", "unix", makedefault=True)

    def fail(self, operation: str, code: int, spared: int = 0) -> None:
        self.operation, self.code, self.spared, self.has_failed = operation, code, spared, False

    def check(self, operation: str) -> None:
        if operation != self.operation:
            return
        if self.spared == 0:
            self.operation, self.has_failed = "", True
            raise apsw.exception_for(self.code)
        self.spared -= 1

    def xOpen(  # noqa: N802 - the driver's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.check("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.check("sync")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


def _open(path: Path) -> Rig:
    return Rig(SqliteStorage(str(path), "app"))


def _after_a_crash(path: Path) -> list[str]:
    """Return the jobs that who opens the file after a crash finds; its index is not read then."""
    copy = path.with_name("crashed.db")
    for suffix in ("", "-wal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    with sqlite3.connect(copy) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = [row[0] for row in plain.execute("SELECT id FROM job ORDER BY id")]
    plain.close()
    for suffix in ("", "-wal", "-shm"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_at_any_step_loses_nothing_acknowledged(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(connections, "WAL_PAGES", 1)  # So that each commit checkpoints.
    path = tmp_path / "a.db"
    operation, code = FAULTS[fault]
    acknowledged: list[str] = []
    told = 0
    rig = _open(path)
    for spared in range(STEPS_MAX):
        job = f"{spared:03}"
        if operation == "read":  # A connection that has not read anything yet.
            rig.storage.close()
            rig = _open(path)
        disk.fail(operation, code, spared)
        try:
            assert rig.storage.enqueue([entry(job)]) == [True]
            acknowledged.append(job)
        except StorageError:
            told += 1
        assert set(acknowledged) <= set(_after_a_crash(path))
        if not disk.has_failed:
            break
    else:
        pytest.fail(f"the fault came at each of {STEPS_MAX} steps")
    disk.fail("", 0)
    assert told, "no fault was seen"
    # It goes on by itself once the disk does; a repeat under the same id is safe.
    rig.storage.enqueue([entry(f"{number:03}") for number in range(spared + 1)])
    leases = rig.lease(spared + 1)
    assert sorted(ids(leases)) == [f"{number:03}" for number in range(spared + 1)]
    assert rig.settle(*map(ack, leases)) == [True] * len(leases)
    rig.storage.close()


def test_what_a_failed_fsync_refused_came_back_after_a_crash(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rig = _open(path)
    rig.put("first")
    disk.fail("sync", apsw.SQLITE_IOERR_FSYNC)
    with pytest.raises(OutcomeUnknown, match="its disk failed"):
        rig.put("doubtful")
    assert rig.counts()[0] == 1
    assert _after_a_crash(path) == ["doubtful", "first"]
    rig.storage.close()


class _FailsToRollBack:
    """A connection whose disk fails while it undoes a transaction; SQLite has then undone it all the same."""

    def __init__(self, real: apsw.Connection) -> None:
        self._real = real
        self.in_transaction = True

    def execute(self, sql: str, *args: Any) -> Any:
        answer = self._real.execute(sql, *args)
        if sql == "ROLLBACK":
            raise apsw.exception_for(apsw.SQLITE_IOERR_READ)
        return answer


def test_a_rollback_that_failed_hid_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = connections.Database(str(tmp_path / "a.db"), synchronous="full")

    def fails() -> None:
        raise ValueError("ours")

    with monkeypatch.context() as patched:
        patched.setattr(db, "_db", _FailsToRollBack(db._db))
        with pytest.raises(ValueError, match="ours"):
            db.transaction(fails)
    assert db.transaction(lambda: db.rows("SELECT 1")) == [(1,)]
    db.close()


def test_a_connection_that_was_refused_keeps_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    _open(path).storage.close()
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA user_version=99")
    plain.close()
    with pytest.raises(StorageRefused, match="layout 99") as refused:
        _open(path)
    # The error, which callers keep, refers to all that was under way.
    assert refused.value.__traceback__ is not None
    held = [
        os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)
    ]
    assert [name for name in held if name.startswith(str(path))] == []


def _is_link(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_file_that_goes_while_it_is_opened_is_told_as_a_storage_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        connections.disk, "prepare", lambda path, *, create: None
    )  # It was there when it was looked at.
    with pytest.raises(StorageUnavailable, match="cannot be opened any more: No such file"):
        _open(tmp_path / "a.db")


def test_a_file_system_that_is_read_only_is_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "still"
    folder.mkdir()
    path = folder / "a.db"
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        _open(path).storage.close()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(StorageRefused, match="mounted read-only; mount it for writing"):
            _open(path)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        _open(path).storage.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)

"""A daemon whose SQLite file is moved, removed or replaced under it: it says so, and goes on where it can."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from taskqd.errors import StorageUnavailable
from taskqd.storage.sqlite import SqliteStorage
from tests.support.apps import shop as tasks
from tests.support.rigs.ctl import taskqctl
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop
from tests.support.waiting import HANG_S, wait_until

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def _file(shop: Shop) -> Path:
    return Path(shop.url.removeprefix("sqlite:///"))


def _is_ready(daemon: Daemon) -> bool:
    return taskqctl(daemon.folder, "probe", "ready", "--socket", daemon.socket).code == 0


def _refused() -> bool:
    try:
        tasks.quick(0)
    except StorageUnavailable as error:
        return "removed or moved away" in str(error)
    return False


def test_a_daemon_stayed_ready_in_silence_after_its_file_was_moved_away(shop: Shop) -> None:
    with shop.open() as daemon:
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        file = _file(shop)
        file.rename(file.with_name("moved.db"))
        lost = daemon.wait("storage.lost")
        assert "removed or moved away" in lost["error"]
        wait_until(_refused, "new jobs to be refused")
        wait_until(lambda: not _is_ready(daemon), "the daemon to be not ready")
        assert not file.exists(), "no empty file is made in its place"
        file.with_name("moved.db").rename(file)
        daemon.wait("storage.restored")
        assert tasks.quick(2).get(timeout=HANG_S) == 2
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0


def test_a_daemon_goes_on_with_the_file_that_replaced_its_own(shop: Shop) -> None:
    with shop.open() as daemon:
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        file = _file(shop)
        SqliteStorage(str(file.with_name("empty.db")), shop.app.name).close()
        os.replace(file.with_name("empty.db"), file)
        daemon.wait("storage.reset")
        wait_until(_serves, "the new file to be served")
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0


def test_a_daemon_goes_on_after_the_index_of_its_log_was_removed(shop: Shop) -> None:
    with shop.open() as daemon:
        assert tasks.quick(1).get(timeout=HANG_S) == 1
        file = _file(shop)
        file.with_name(f"{file.name}-shm").unlink()
        # The caller's own connection is one of those that have to leave.
        wait_until(_serves, "the file to be served")
        daemon.wait("storage.restored")
        assert not daemon.events("worker.crashed")
        assert daemon.stop() == 0
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _serves() -> bool:
    try:
        return tasks.quick(3).get(timeout=HANG_S) == 3
    except StorageUnavailable:
        return False

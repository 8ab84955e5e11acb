"""Opens, checks and runs; only this file and `faults` know the SQLite driver."""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from time import sleep
from typing import Any, TypeVar

import apsw

from taskqd.clock import monotonic_s
from taskqd.errors import (
    QueueFull,
    StorageCorrupt,
    StorageError,
    StorageRefused,
)
from taskqd.storage.sqlite.file import disk, faults, shared_index
from taskqd.storage.sqlite.file.additions import ADDITIONS, Addition
from taskqd.storage.sqlite.file.identity import Change, FileIdentity

T = TypeVar("T")
APPLICATION_ID = 0x74617371
"""Marks the file as taskqd's ("tasq")."""
VERSION = 2
BUSY_S = 5.0
"""As long as a call to a server may take.  A worker that waits longer is held to be hung."""
WAL_PAGES = 1000
WAL_BYTES_MAX = 64 * 1024 * 1024
CACHE_KIB = 4096
SAFE_VERSION = (3, 51, 3)
"""The first SQLite in which a reset of the write-ahead log cannot damage the file."""


class Database:
    """One connection of one process.  After a fork the child opens its own."""

    def __init__(
        self, path: str, *, synchronous: str, busy_s: float = BUSY_S, create: bool = True
    ) -> None:
        """`create`: make the file where it is missing; else that raises StorageUnavailable."""
        self.path = os.path.abspath(path)
        self._busy_s = busy_s
        self._busy_since = 0.0
        self._pid = os.getpid()
        disk.prepare(self.path, create=create)
        self._use = shared_index.connect(
            self.path, lambda: self._translated(lambda: self._open(synchronous)).close
        )
        self._identity = FileIdentity(self.path)
        self._looked_s = monotonic_s()

    @property
    def is_mine(self) -> bool:
        return self._pid == os.getpid()

    def change(self, *, every_s: float = 0.0) -> Change | None:
        """Return what happened to the files at the path; looks no more often than `every_s`."""
        if self._use.is_lost:  # Another thread has noticed it.
            return Change.INDEX_GONE
        now_s = monotonic_s()
        if now_s - self._looked_s < every_s:
            return None
        self._looked_s = now_s
        return self._identity.change()

    def leave(self, change: Change) -> None:
        """Close a connection whose files are not at the path any more.

        What stands in its log only is moved into its file first, unless somebody else may have begun
        another log for that file.
        """
        if change not in (Change.LOG_REPLACED, Change.INDEX_REPLACED):
            with contextlib.suppress(StorageError):
                self.checkpoint()
        if self._use.index != shared_index.index_of(self._use.path):
            shared_index.lose(self._use)
        with contextlib.suppress(apsw.Error):
            shared_index.leave(self._use, self._db.close)

    def forget_log(self) -> None:
        """See `FileIdentity.forget_log`; call it before what stands at the path is opened."""
        self._identity.forget_log()

    # -- running -----------------------------------------------------------------------------

    def rows(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        return self._translated(lambda: list(self._db.execute(sql, args)))

    def row(self, sql: str, args: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        found = self.rows(sql, args)
        return found[0] if found else None

    def many(self, sql: str, args: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Run one statement for each of `args` and return the rows of all."""
        return self._translated(lambda: list(self._db.executemany(sql, args)))

    def count(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        self.rows(sql, args)
        changes: int = self._db.changes()
        return changes

    def transaction(self, body: Callable[[], T]) -> T:
        """Run `body` with the write lock; all of it happens, or nothing and an error is raised."""
        self.rows("BEGIN IMMEDIATE")
        try:
            result = body()
            self._commit()
        except BaseException:
            _roll_back(self._db)
            raise
        return result

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            raise faults.of_commit(error, self.path, self._busy_s) from error

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Move the write-ahead log into the file, as far as readers allow."""
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
        try:
            self._db.wal_checkpoint(mode=mode)
        except (apsw.BusyError, apsw.LockedError):
            return  # Somebody reads or checkpoints: the next one does it.
        except apsw.Error as error:
            raise self._meaning(error) from error

    def close(self) -> None:
        if self.is_mine:
            shared_index.leave(self._use, self._db.close)

    # -- opening -----------------------------------------------------------------------------

    def _open(self, synchronous: str) -> apsw.Connection:
        db = apsw.Connection(self.path, statementcachesize=200)
        db.set_busy_handler(self._wait_busy)
        self._db = db
        try:
            self._patiently(lambda: self._set_up(db, synchronous))
        except BaseException:
            # law: a connection that was refused holds nothing; its locks would be taken for nobody's
            # (test_a_connection_that_was_refused_keeps_no_file_open).
            db.close()
            raise
        return db

    def _set_up(self, db: apsw.Connection, synchronous: str) -> None:
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute(f"PRAGMA journal_size_limit={WAL_BYTES_MAX}")
        db.wal_autocheckpoint(WAL_PAGES)
        if self._is_new(db):
            self._create(db)
        self._check(db)
        if db.pragma("journal_mode", "wal") != "wal":
            raise StorageRefused(
                f"sqlite storage {self.path}: its file system has no shared memory, which the "
                "write-ahead log needs; put the file on a local disk"
            )

    def _is_new(self, db: apsw.Connection) -> bool:
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchall()[0][0]
        marked = db.pragma("application_id")
        return tables == 0 and marked in (0, APPLICATION_ID)

    def _create(self, db: apsw.Connection) -> None:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.pragma("journal_mode", "wal")
        schema = resources.files("taskqd.storage.sqlite").joinpath("schema.sql").read_text()
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._is_new(db):
                db.execute(schema)
                db.execute("INSERT INTO store VALUES (1, ?, 0)", (uuid.uuid4().hex,))
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise

    def _check(self, db: apsw.Connection) -> None:
        if db.pragma("application_id") != APPLICATION_ID:
            raise StorageCorrupt(
                f"sqlite storage {self.path}: is a SQLite database of something else; it was left "
                "untouched: give taskqd a file of its own"
            )
        version = db.pragma("user_version")
        if version != VERSION:
            raise StorageRefused(
                f"sqlite storage {self.path}: has layout {version}, this taskqd knows {VERSION}; "
                "run the taskqd that wrote it, or drain it there first"
            )
        if len(db.execute("SELECT epoch FROM store").fetchall()) != 1:
            raise StorageCorrupt(f"sqlite storage {self.path}: its first row is missing")
        self._complete(db)

    def _complete(self, db: apsw.Connection) -> None:
        """Add what newer versions of this layout have; old ones go on beside it."""
        if not _missing(db):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            for addition in _missing(db):
                db.execute(addition.make)
            db.execute("COMMIT")
        except BaseException:
            _roll_back(db)
            raise

    def _patiently(self, action: Callable[[], None]) -> None:
        """Repeat while another process creates or recovers the file, which ignores busy handlers."""
        deadline = monotonic_s() + self._busy_s
        while True:
            try:
                return action()
            except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError):
                if monotonic_s() > deadline:
                    raise
                sleep(random.uniform(0.001, 0.01))

    def _wait_busy(self, calls: int) -> bool:
        """Sleep a random moment while another process writes, up to the deadline.

        Short and random, because each release is a lottery: nobody falls back behind newcomers.
        """
        now = monotonic_s()
        if calls == 0:
            self._busy_since = now
        if now - self._busy_since > self._busy_s:
            return False
        sleep(random.uniform(0.0001, 0.0005 if calls < 4 else 0.004))
        return True

    # -- errors ------------------------------------------------------------------------------

    def _translated(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except apsw.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: apsw.Error) -> StorageError:
        return faults.meaning(error, self.path, self._busy_s)


def _roll_back(db: apsw.Connection) -> None:
    """Undo what is not committed; the error that led here is the one to be told."""
    if db.in_transaction:
        with contextlib.suppress(apsw.Error):
            db.execute("ROLLBACK")


def _missing(db: apsw.Connection) -> list[Addition]:
    return [one for one in ADDITIONS if not db.execute(one.present).fetchall()]


def queue_full(path: str) -> QueueFull:
    return QueueFull(
        f"sqlite storage {path}: no room for new jobs; those it holds can still run and end: "
        "free some disk space"
    )


def library_version() -> tuple[int, ...]:
    return tuple(int(part) for part in apsw.sqlite_lib_version().split("."))

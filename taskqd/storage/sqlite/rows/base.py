"""What all parts of the SQLite storage stand on: the connection, transactions, room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from taskqd.errors import StorageUnavailable
from taskqd.storage.sqlite.file import disk
from taskqd.storage.sqlite.file.connection import Database, DiskFull, queue_full
from taskqd.storage.sqlite.file.wake import Wake
from taskqd.storage.sqlite.rows.transaction import Transaction

T = TypeVar("T")
_USED = "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size)"


class Base:
    """One opened file.  It is opened at once, so that bad files are refused at once, and again after a fork."""

    def __init__(
        self, path: str, namespace: str, *, synchronous: str = "full", max_mb: int | None = None
    ) -> None:
        self.namespace = namespace
        self.path = os.path.abspath(path)
        self._synchronous = synchronous
        self._max_bytes = max_mb * 1024 * 1024 if max_mb else None
        self._wake = Wake(self.path)
        self._reserve = disk.Reserve(self.path)
        self._short = False
        """The disk was full lately: keep the write-ahead log small."""
        self._effects: dict[str, set[tuple[str, str, int]]] = {}
        """Worker -> its latest outcomes that took effect; no other process can repeat them."""
        self._connection = self._connect()

    def _connect(self) -> Database:
        db = Database(self.path, synchronous=self._synchronous)
        self._space = self._space_id(db)
        return db

    def _space_id(self, db: Database) -> int:
        find = ("SELECT id FROM space WHERE name=?", (self.namespace,))
        found = db.row(*find)
        if found is None:
            db.rows("INSERT INTO space (name) VALUES (?) ON CONFLICT DO NOTHING", (self.namespace,))
            found = db.row(*find)
            assert found is not None
        space: int = found[0]
        return space

    @property
    def _db(self) -> Database:
        if not self._connection.is_mine:
            self._connection = self._connect()
        return self._connection

    def _write(self, body: Callable[[Transaction], T], *, grows: bool = False, node: str = "") -> T:
        """Run `body` in one transaction, then wake whom it concerns.

        `grows`: it writes new jobs, so that a full disk refuses it (QueueFull); everything else
        may spend the reserve.
        """
        if grows:
            self._check_room()
        try:
            return self._try(body, node)
        except DiskFull as error:
            if grows:
                raise queue_full(self.path) from error
            self._reserve.spend()
            self._short = True
            self._shrink()
            return self._try_last(body, node)

    def _try(self, body: Callable[[Transaction], T], node: str) -> T:
        db = self._db
        unit = Transaction(db, self._space, node)

        def run() -> T:
            result = body(unit)
            unit.write_back()
            return result

        result = db.transaction(run)
        unit.wake(self._wake)
        if self._short:
            self._shrink()
        return result

    def _try_last(self, body: Callable[[Transaction], T], node: str) -> T:
        try:
            return self._try(body, node)
        except DiskFull as error:
            raise StorageUnavailable(
                f"{error}, and the reserve kept for ending jobs is used up; free some disk space"
            ) from error

    def _shrink(self) -> None:
        """Empty the write-ahead log into the file, so that the next write can use its room."""
        try:
            self._db.checkpoint(truncate=True)
        except DiskFull:
            return  # Nothing is lost: the log is kept, and the next checkpoint goes on.

    def _check_room(self) -> None:
        if not self._reserve.is_kept():
            if self._short:
                self._give_back()
            if not self._reserve.keep():
                raise queue_full(self.path)
            self._short = False
        if self._max_bytes is not None:
            pages, page_bytes = self._only(_USED)
            if pages * page_bytes >= self._max_bytes:
                raise queue_full(self.path)

    def _give_back(self) -> None:
        """Return free pages to the disk."""
        try:
            self._db.rows("PRAGMA incremental_vacuum(4096)")
        except DiskFull:
            return  # There is no room even for that; the caller finds the reserve missing.
        self._shrink()

    def _reader(self) -> Transaction:
        """Return what reads as in a transaction, outside of one."""
        return Transaction(self._db, self._space)

    def _queue_ids(self) -> dict[str, int]:
        rows = self._db.rows(
            "SELECT name, id FROM queue WHERE space=? ORDER BY name", (self._space,)
        )
        return dict(rows)

    def _forget_effects(self, is_gone: Callable[[str], bool]) -> None:
        for worker in [worker for worker in self._effects if is_gone(worker)]:
            del self._effects[worker]

    def _only(self, sql: str, args: Iterable[Any] = ()) -> tuple[Any, ...]:
        """Return the one row of a query that always has one."""
        [row] = self._db.rows(sql, tuple(args))
        return row

    def close(self) -> None:
        self._connection.close()

"""What all parts of the SQLite storage stand on: the connection, transactions, room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.storage.sqlite.file import disk
from taskqd.storage.sqlite.file.connection import Database, queue_full
from taskqd.storage.sqlite.file.faults import DiskFull
from taskqd.storage.sqlite.file.guard import Guard
from taskqd.storage.sqlite.file.identity import Change
from taskqd.storage.sqlite.file.wake import Wake
from taskqd.storage.sqlite.rows.transaction import Transaction

T = TypeVar("T")
Item = TypeVar("Item")
STEP_ROWS = 200
"""Jobs, or other rows with an index, that one transaction changes: it locks others out for a few ms."""
LOOK_S = 0.5
"""Between two looks at whether the file is still at its path, for calls that only read."""
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
        self._guard = Guard(self._wake)
        self._is_lost = False
        """Its file was not at the path any more when it was last looked at."""
        self._effects: dict[str, set[tuple[str, str, int]]] = {}
        """Worker -> its latest outcomes that took effect; no other process can repeat them."""
        self._connection = self._connect()

    def _connect(self) -> Database:
        # Others still have the old file open: they are told to get it back, and not given a new one.
        is_there = os.path.exists(self.path)
        create = not self._is_lost and (is_there or not self._guard.is_held_by_others())
        db = Database(self.path, synchronous=self._synchronous, create=create)
        self._space = self._space_id(db)
        self._is_lost = False
        self._guard.let_go()
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
        """The connection.  Raises StorageUnavailable where its file is not at the path any more."""
        if self._is_lost:
            self._connection.forget_log()
            self._connection = self._connect()
        elif not self._connection.is_mine:
            self._connection = self._connect()
        else:
            self._check_place(every_s=LOOK_S)
        return self._connection

    def _check_place(self, *, every_s: float = 0.0) -> None:
        """Raise StorageUnavailable where the file is not at its path any more."""
        if change := self._connection.change(every_s=every_s):
            self._leave(change)
            raise StorageUnavailable(self._said(change))

    def _leave(self, change: Change) -> None:
        """Let go of files that are not at the path any more; the next call opens what is there."""
        self._guard.hold()
        self._is_lost = True
        self._effects.clear()
        self._connection.leave(change)

    def _said(self, change: Change) -> str:
        if change is Change.GONE:
            return disk.gone(self.path)
        return f"sqlite storage {self.path}: {change}; it is opened again"

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

    def _in_steps(
        self, items: Sequence[Item], body: Callable[[Transaction, Sequence[Item]], int]
    ) -> int:
        """Call `body` for some of the items after others, each time in a transaction of its own."""

        def step(at: int) -> int:
            return self._write(lambda unit: body(unit, items[at : at + STEP_ROWS]))

        return sum(step(at) for at in range(0, len(items), STEP_ROWS))

    def _repeat(self, body: Callable[[Transaction], int], expected: int) -> int:
        """Call `body` in short transactions until `expected` rows are done or none is left."""
        done = 0
        while done < expected and (some := self._write(body)):
            done += some
        return done

    def _try(self, body: Callable[[Transaction], T], node: str) -> T:
        db = self._db
        unit = Transaction(db, self._space, node)

        def run() -> T:
            result = body(unit)
            unit.write_back()
            return result

        result = db.transaction(run)
        # law: nothing is acknowledged that went into a file which nobody will read again
        # (test_what_was_acknowledged_was_in_a_file_that_nobody_reads_again).
        if change := db.change():
            self._leave(change)
            raise OutcomeUnknown(f"{self._said(change)}; what was just written may be lost with it")
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
                self._check_place()
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
        self._guard.let_go()
        if not self._is_lost:
            self._connection.close()

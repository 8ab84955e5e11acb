"""What the errors of the SQLite driver mean to who called."""

from __future__ import annotations

import apsw

from taskqd.errors import (
    OutcomeUnknown,
    StorageCorrupt,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)


class DiskFull(StorageError):
    """Raised inside the package; becomes QueueFull, or the reserve is spent."""


def of_commit(error: apsw.Error, path: str, busy_s: float) -> StorageError:
    """Return what a failed COMMIT means.

    law: where the disk failed, the log may hold the transaction whole, and who opens the file after a
    crash reads it from there (test_what_a_failed_fsync_refused_came_back_after_a_crash).
    """
    meant = meaning(error, path, busy_s)
    if isinstance(error, apsw.IOError) and not isinstance(meant, DiskFull):
        return OutcomeUnknown(f"{meant}; whether it was written is seen when the file is read anew")
    return meant


def meaning(error: apsw.Error, path: str, busy_s: float) -> StorageError:
    where = f"sqlite storage {path}"
    text = str(error)
    if isinstance(error, apsw.FullError) or _is_full_disk(error):
        return DiskFull(f"{where}: no room on its disk")
    if isinstance(error, apsw.BusyError | apsw.LockedError | apsw.ProtocolError):
        return StorageUnavailable(
            f"{where}: another process has kept it locked for {busy_s:g} s ({text})"
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError | apsw.FormatError):
        return StorageCorrupt(
            f"{where}: is not a database, or is damaged ({text}); it was left untouched: "
            "move it away, or restore a copy"
        )
    if isinstance(
        error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError | apsw.AuthError
    ):
        return StorageRefused(
            f"{where}: cannot be written ({text}); give this user the right to write the "
            "file, the files beside it and their folder"
        )
    if isinstance(error, apsw.SQLError | apsw.ConstraintError | apsw.MismatchError):
        return StorageCorrupt(f"{where}: does not have the tables expected ({text})")
    if isinstance(error, apsw.IOError):
        return StorageUnavailable(
            f"{where}: its disk failed ({text}); see the kernel's log, and `df` for a file system "
            "that was made read-only"
        )
    return StorageUnavailable(f"{where}: {type(error).__name__}: {text}")


def _is_full_disk(error: apsw.Error) -> bool:
    """Return whether an I/O error means that the shared-memory file could not grow."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE

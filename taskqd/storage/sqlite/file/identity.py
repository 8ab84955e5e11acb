"""Whether a connection still has the files open that stand at its path.

A file that was removed, moved away or replaced lives on for who has it open, and SQLite does not say so
while it writes its log: what is written then is never read again.  So the path is compared with what was
opened, by device and inode, after each commit and now and then before a read.
"""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum

_Inode = tuple[int, int] | None


class Change(StrEnum):
    """What happened to the files at the path."""

    GONE = "was removed or moved away"
    REPLACED = "was replaced by another file"
    LOG_GONE = "lost its write-ahead log: the file beside it was removed"
    LOG_REPLACED = "lost its write-ahead log: another one stands beside it"
    INDEX_GONE = "lost the index of its write-ahead log: -shm was removed"
    INDEX_REPLACED = "lost the index of its write-ahead log: another -shm stands beside it"


class FileIdentity:
    """Of one connection, taken when it is open."""

    def __init__(self, path: str) -> None:
        self._path = path
        real = os.path.realpath(path)  # They are beside the database, not beside a link to it.
        self._log = real + "-wal"
        self._inode = _inode_of(path)
        self._log_inode = _inode_of(self._log)
        self._index = real + "-shm"
        self._index_inode = _inode_of(self._index)

    def change(self) -> Change | None:
        """Return what has happened since the files were opened, None if nothing has."""
        inode = _inode_of(self._path)
        if inode != self._inode:
            return Change.REPLACED if inode else Change.GONE
        log = _inode_of(self._log)
        if log != self._log_inode:
            return Change.LOG_REPLACED if log else Change.LOG_GONE
        index = _inode_of(self._index)
        if index != self._index_inode:
            return Change.INDEX_REPLACED if index else Change.INDEX_GONE
        return None

    def forget_log(self) -> None:
        """Remove the log that was opened from beside another file, which has nothing to do with it.

        SQLite would play it into that file.
        """
        if _inode_of(self._path) in (None, self._inode) or _inode_of(self._log) != self._log_inode:
            return
        for file in (self._log, self._index):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)


def _inode_of(path: str) -> _Inode:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

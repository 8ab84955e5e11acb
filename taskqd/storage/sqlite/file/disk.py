"""The file and what lies under it: may it be used, is there room.  No SQLite here."""

from __future__ import annotations

import contextlib
import errno
import os
from os import close

from taskqd.errors import StorageRefused, StorageUnavailable

NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs ncpfs ceph afs lustre gpfs beegfs glusterfs ocfs2 gfs2 "
    "fuse.glusterfs fuse.ceph fuse.sshfs fuse.s3fs fuse.gcsfuse".split()
)
"""File systems of several hosts: SQLite's shared memory does not reach over them."""
DOUBTFUL = ("fuse", "9p", "virtiofs", "vboxsf")
RESERVE_BYTES = 4 * 1024 * 1024
FILE_MODE = 0o660
"""Less the umask: 0640 by the usual one, group-writable where the umask says so."""


def prepare(path: str, *, create: bool = True) -> None:
    """Create the file if it is missing; raise StorageRefused where it cannot be used.

    Without `create` a missing file raises StorageUnavailable: it was there a moment ago.
    """
    if not create and not os.path.exists(path):
        raise StorageUnavailable(gone(path))
    if os.path.isdir(path):
        raise StorageRefused(f"sqlite storage {path}: is a folder; expected a file")
    kind = file_system(path)
    if kind in NETWORK:
        raise StorageRefused(
            f"sqlite storage {path}: is on a network file system ({kind}), where SQLite's locks "
            "lose jobs; put the file on a local disk, or use redis://"
        )
    if _is_read_only(os.path.dirname(path)):
        raise StorageRefused(
            f"sqlite storage {path}: its file system is mounted read-only; mount it for writing, and "
            "look into the kernel's log for why, as a failing disk does that too"
        )
    try:
        _make_writable(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        raise StorageRefused(
            f"sqlite storage {path}: the folder {folder} does not exist; create it first"
        ) from None
    except OSError as error:
        raise StorageRefused(
            f"sqlite storage {path}: cannot be opened for writing: {error.strerror}; "
            "give this user the right to write the file and its folder"
        ) from error
    if not os.access(os.path.dirname(path), os.W_OK):
        raise StorageRefused(
            f"sqlite storage {path}: its folder cannot be written, but SQLite keeps files beside "
            "the database; give this user the right to write the folder"
        )


def _make_writable(path: str) -> None:
    """Create the file if it is missing; raise OSError where it cannot be read and written.

    law: a file that exists is not opened here: closing it would drop the locks that other connections
    of this process have on it (test_a_second_connection_of_a_process_gave_up_the_locks_of_its_first).
    """
    if not os.path.exists(path):
        close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    elif not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _is_read_only(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def gone(path: str) -> str:
    """Return what to say of a file that was removed or moved away while processes use it."""
    return (
        f"sqlite storage {path}: its file was removed or moved away while it is in use; put it (or a "
        "copy) back, or stop what uses it: nothing is made anew there meanwhile"
    )


def file_system(path: str) -> str:
    """Return the type of the file system that holds `path` ("" where it cannot be told)."""
    best, kind = -1, ""
    wanted = os.path.realpath(os.path.dirname(path)) + "/"
    for point, found in _mounts():
        prefix = point.rstrip("/") + "/"
        if wanted.startswith(prefix) and len(prefix) >= best:
            best, kind = len(prefix), found
    return kind


def doubt(path: str) -> str:
    """Return a warning where the file system may be shared between hosts, else ""."""
    kind = file_system(path)
    if kind.partition(".")[0] not in DOUBTFUL:
        return ""
    return (
        f"sqlite storage {path} is on {kind}: safe only if no other host or virtual machine "
        "opens the same file"
    )


def _mounts() -> list[tuple[str, str]]:
    """Return (mount point, type), later mounts last."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    found = []
    for words in lines:
        point = words[4].encode(errors="surrogateescape").decode("unicode_escape")
        found.append((point, words[words.index("-") + 1]))
    return found


class Reserve:
    """Some disk space that is kept aside, so that jobs can still end when the disk is full.

    New jobs are refused as long as it is used up; it comes back by itself when there is room.
    """

    def __init__(self, path: str) -> None:
        self.path = path + "-reserve"

    def is_kept(self) -> bool:
        try:
            return os.stat(self.path).st_size >= RESERVE_BYTES
        except FileNotFoundError:
            return False

    def is_spent(self) -> bool:
        """Return whether it was used up; before the first job there is none yet."""
        return os.path.exists(self.path) and not self.is_kept()

    def keep(self) -> bool:
        """Set the space aside.  False: there is no room for it."""
        if self.is_kept():
            return True
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            return False
        finally:
            close(fd)
        return True

    def spend(self) -> None:
        """Give the space to whoever settles now."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.path, 0)

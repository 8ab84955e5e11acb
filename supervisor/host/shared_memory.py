"""Memory shared with the children: the board, which all map, and a file for the stacks of each."""

from __future__ import annotations

import fcntl
import mmap
import os

from taskqd.ipc import board
from taskqd.ipc.board import Board


class BoardMemory:
    """Owns the memory and its descriptor, which children inherit."""

    def __init__(self, rows: int, slots: int) -> None:
        size = board.size(rows, slots)
        self.fd = os.memfd_create("taskqd-board", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self._map = mmap.mmap(self.fd, size)
        board.HEADER.pack_into(self._map, 0, board.VERSION, rows, slots, 0)
        self._view = memoryview(self._map)
        self.board = Board(self._view, rows, slots)

    def close(self) -> None:
        self.board.close()
        self._view.release()
        self._map.close()
        os.close(self.fd)


class StackFile:
    """Where one child's faulthandler writes; read by the master when it wants to know."""

    BYTES_MAX = 64 * 1024

    def __init__(self) -> None:
        self.fd = os.memfd_create("taskqd-stacks", os.MFD_CLOEXEC)
        # Appending keeps the child's writes behind each other whatever offset either side has.
        _set_append(self.fd)

    def share(self) -> int:
        """Return a descriptor to send away."""
        return os.dup(self.fd)

    def take(self) -> str:
        """Return the last of what was written, "" if nothing, and forget it."""
        size = os.fstat(self.fd).st_size
        start = max(0, size - self.BYTES_MAX)
        text = os.pread(self.fd, self.BYTES_MAX, start).decode(errors="replace")
        os.ftruncate(self.fd, 0)
        return text

    def close(self) -> None:
        os.close(self.fd)


def _set_append(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)

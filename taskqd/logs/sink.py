"""Where lines of the log go: whole lines, few writes, and never a wait without an end.

law: nobody waits for a lock.  Whoever finds another thread writing leaves the line to it; a forked
child, which may inherit the lock locked and lines that are its parent's, starts anew
(test_a_forked_child_writes_its_own_lines_only).

What reads the log may stop reading.  A pipe that stays full for `WAIT_S` costs lines, not jobs: they
are dropped and counted, further ones are tried but not waited for, and the first line that gets
through is followed by the count.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from select import poll
from threading import Lock

WAIT_S = 0.5
PIPE_BYTES_MAX = select.PIPE_BUF
"""What the kernel keeps whole between the processes that share a pipe."""
FILE_BYTES_MAX = 64 * 1024
"""Appending to a file is always whole."""


class Sink:
    """Takes lines from any thread and writes them to a file descriptor."""

    def __init__(self, fd: int, path: str | None = None) -> None:
        self.fd = fd
        self.dropped = 0
        self.on_dropped: Callable[[int], None] = lambda _count: None
        """Called once lines get through again, with how many did not."""
        self._path = path
        self._lines: deque[bytes] = deque()
        self._writing = Lock()
        self._pid = os.getpid()
        self._untold = 0
        self._stuck = False
        self._torn = False
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._bytes_max = FILE_BYTES_MAX if is_file else PIPE_BYTES_MAX
        self._put = _writer(fd)

    def add(self, line: bytes) -> bool:
        """Take a line, which ends with a newline, to be written at the next `flush`.

        Return whether about as many wait as one write can take.
        """
        self._lines.append(line)
        return (len(self._lines) + 1) * len(line) > self._bytes_max

    def flush(self) -> None:
        """Write what was added; where another thread is writing, that one writes it as well."""
        if not self._lines:
            return
        if self._pid != os.getpid():
            self._start_anew()
        while self._lines and self._writing.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._writing.release()

    def reopen(self) -> str:
        """Open the file again, which was renamed; where that fails, the old one stays.

        Return why it failed.  Lines to a bare descriptor have no file.
        """
        if self._path is None:
            return ""
        try:
            fresh = open_file(self._path)
        except OSError as error:
            return error.strerror or repr(error)
        os.dup2(fresh, self.fd, inheritable=False)
        os.close(fresh)
        return ""

    def _start_anew(self) -> None:
        """In a forked child: what was waiting is the parent's; the last line is the child's."""
        self._pid = os.getpid()
        self._writing = Lock()
        self._lines = deque([self._lines[-1]])

    def _drain(self) -> None:
        while chunk := self._next():
            data = b"".join(chunk)
            if self._write(b"\n" + data if self._torn else data):
                self._torn = False
                if self._untold:
                    count, self._untold = self._untold, 0
                    self.on_dropped(count)
            else:
                self.dropped += len(chunk)
                self._untold += len(chunk)

    def _next(self) -> list[bytes]:
        """Take as many lines as one write keeps whole, and at least one."""
        chunk: list[bytes] = []
        size = 1
        while self._lines and (not chunk or size + len(self._lines[0]) <= self._bytes_max):
            chunk.append(self._lines.popleft())
            size += len(chunk[-1])
        return chunk

    def _write(self, data: bytes) -> bool:
        """Return whether all of it was written."""
        until_s = 0.0
        try:
            while data:
                if written := self._put(data):
                    data = data[written:]
                    self._torn = bool(data)
                    continue
                now_s = time.monotonic()
                until_s = until_s or now_s + (0.0 if self._stuck else WAIT_S)
                if now_s >= until_s or not _writable(self.fd, until_s - now_s):
                    self._stuck = True
                    return False
        except OSError:
            # A closed pipe or a full disk must not stop the work that the lines tell of.
            return False
        self._stuck = False
        return True


def open_file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _writer(fd: int) -> Callable[[bytes], int]:
    """Return how to write as much as is possible without waiting; it returns 0 where nothing is."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) and (own := _own_pipe_end(fd)) is not None:
        return lambda data: _write_to_pipe(own, data)
    if stat.S_ISREG(mode):
        return lambda data: os.write(fd, data)
    return lambda data: os.write(fd, data) if _writable(fd, 0.0) else 0


def _own_pipe_end(fd: int) -> int | None:
    """Open the pipe once more: others share the descriptor that was inherited, and its flags."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # The pipe is another user's, or nobody reads it.
        return None


def _write_to_pipe(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def _writable(fd: int, timeout_s: float) -> bool:
    waiter = poll()
    waiter.register(fd, select.POLLOUT)
    return bool(waiter.poll(timeout_s * 1000))

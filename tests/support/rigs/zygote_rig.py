"""A zygote with the test as its master: forks real workers and a real scheduler."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from taskqd.ipc import board
from taskqd.ipc.board import Board, Row
from taskqd.ipc.messages import (
    CONTEXT_ENV,
    ChildContext,
    Message,
    Role,
    Spawn,
    decode_from_child,
    decode_from_zygote,
    encode,
)
from taskqd.settings import Settings
from taskqd.settings import encode as encode_settings
from tests.support.waiting import HANG_S

M = TypeVar("M", bound=Message)
ROOT = Path(__file__).parents[3]
PR_SET_CHILD_SUBREAPER = 36


_open = 0


def _adopt_orphans(change: int) -> None:
    """Be the parent of what loses its own, as masters are, while a rig is open.

    And no longer: a namespace does not end before every process that was in it is reaped.
    """
    global _open
    _open += change
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(_open > 0), 0, 0, 0)


class Gone(Exception):
    """The other end of a channel is closed."""


class Child:
    """A forked process as its master sees it."""

    def __init__(self, sock: socket.socket, number: int, worker_id: str, row: Row, fd: int) -> None:
        sock.settimeout(HANG_S)
        self.socket = sock
        self.number = number
        self.worker_id = worker_id
        self.row = row
        self.stacks_fd = fd
        self.pid = 0
        self.said: list[Message] = []

    def tell(self, message: Message) -> None:
        self.socket.send(encode(message))

    def hear(self, kind: type[M]) -> M:
        """Return the next message of this kind; others on the way are kept in `said`."""
        while True:
            packet = self.socket.recv(65536)
            if not packet:
                raise Gone(f"child {self.number} is gone; it said {self.said}")
            message = decode_from_child(packet)
            self.said.append(message)
            if isinstance(message, kind):
                return message

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit code (negative: the signal), reaping the child."""
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        raise AssertionError(f"child {self.number} lives on")

    def stacks(self) -> str:
        return os.pread(self.stacks_fd, 65536, 0).decode()

    def title(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().decode().strip("\0 ")


class ZygoteRig:
    """Start with `with`; `spawn` forks."""

    def __init__(
        self, settings: Settings, cwd: Path, *, workers: int = 2, slots: int = 1, node: str = "n1"
    ) -> None:
        _adopt_orphans(+1)
        self.settings = settings
        self.node_id = node
        self.children: list[Child] = []
        self._serial = 0
        self._scheduler_row = workers
        rows = workers + 1
        self._board_fd = os.memfd_create("board")
        os.ftruncate(self._board_fd, board.size(rows, slots))
        self._memory = mmap.mmap(self._board_fd, board.size(rows, slots))
        self.board = Board(memoryview(self._memory), rows, slots)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(HANG_S)
        context = ChildContext(
            encode_settings(settings),
            1,
            node,
            "test@here",
            os.getpid(),
            theirs.fileno(),
            self._board_fd,
            rows,
            slots,
            self._scheduler_row,
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taskqd.worker.zygote"],
            cwd=cwd,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                CONTEXT_ENV: msgspec.json.encode(context).decode(),
            },
            pass_fds=(theirs.fileno(), self._board_fd),
        )
        theirs.close()

    def __enter__(self) -> ZygoteRig:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()
        for child in self.children:
            child.socket.close()
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                with contextlib.suppress(ChildProcessError):
                    child.wait()
            os.close(child.stacks_fd)
        try:
            self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            _adopt_orphans(-1)

    def hear(self, kind: type[M]) -> M:
        packet = self.socket.recv(65536)
        if not packet:
            raise Gone("the zygote is gone")
        message = decode_from_zygote(packet)
        assert isinstance(message, kind), message
        return message

    def spawn(self, role: Role = "worker", number: int = 0) -> Child:
        self._serial += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stacks = os.memfd_create("stacks")
        worker_id = f"{self.node_id}.{self._serial}"
        row = self._scheduler_row if role == "scheduler" else number
        self.board.row(row).clear()
        socket.send_fds(
            self.socket, [encode(Spawn(role, number, worker_id))], [theirs.fileno(), stacks]
        )
        theirs.close()
        child = Child(ours, number, worker_id, self.board.row(row), stacks)
        self.children.append(child)
        return child

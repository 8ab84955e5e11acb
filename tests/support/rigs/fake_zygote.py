"""A zygote of our own for tests of the master: it speaks the protocol and does as it is told.

`FAKE` in the environment is JSON: {"zygote": "<fault>", "worker": {...}, "scheduler": {...}}.
Faults of the zygote: fail, crash, garbage, mute (loads and forks nothing), hang (never loads).
Habits of a child, by name: boot_fail, boot_crash, lost (its storage is never reached), busy (posts
a running job), overdue (the same, past its deadline), deaf (answers no message), frozen (beats
once), garbage, leave (its socket is closed, it lives on), linger (does not exit after Drained),
stubborn (ignores TERM), empty (says Empty), litter (leaves an orphan that exits with 3), refused (its storage is lost, and then turns out to refuse it).
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import socket
import sys
import time

import msgspec

from taskqd.ipc import board, messages
from taskqd.ipc.board import Board
from taskqd.ipc.messages import CONTEXT_ENV, ChildContext, decode_to_child, decode_to_zygote, encode

FAKE = json.loads(os.environ.get("FAKE", "{}"))
BOOTS = os.environ.get("FAKE_BOOTS", "")
"""A file made by the first worker that boots, where the habits are to be that one's only."""


def main() -> None:
    context = msgspec.json.decode(os.environ[CONTEXT_ENV], type=ChildContext)
    channel = socket.socket(fileno=context.channel_fd)
    fault = FAKE.get("zygote", "")
    if context.generation > 1 and FAKE.get("zygote_once"):
        fault = ""
    if fault == "fail":
        channel.send(encode(messages.LoadFailed("import", "No module named 'shop'", "Traceback")))
        sys.exit(78)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "garbage":
        channel.send(b"\x00nonsense")
        time.sleep(60)
    if fault == "hang":
        time.sleep(60)
    channel.send(encode(messages.Loaded("shop", "memory://", 3, ("default",), 0, 1.0)))
    if fault == "mute":
        time.sleep(60)
    size = board.size(context.board_rows, context.board_slots)
    memory = memoryview(mmap.mmap(context.board_fd, size))
    serve(context, channel, Board(memory, context.board_rows, context.board_slots))


def serve(context: ChildContext, channel: socket.socket, shared: Board) -> None:
    while True:
        packet, fds, _, _ = socket.recv_fds(channel, 131072, 4)
        if not packet:
            return
        message = decode_to_zygote(packet)
        if isinstance(message, messages.Exit):
            return
        reader, writer = os.pipe()
        middle = os.fork()
        if middle == 0:
            pid = os.fork()
            if pid:
                os.write(writer, str(pid).encode())
                os._exit(0)
            channel.close()
            os.setsid()
            while os.getppid() != context.master_pid:
                time.sleep(0.001)
            Child(message, socket.socket(fileno=fds[0]), fds[1], shared).live()
            os._exit(0)
        os.waitpid(middle, 0)
        pid = int(os.read(reader, 20))
        for fd in (reader, writer, *fds):
            os.close(fd)
        channel.send(encode(messages.Forked(message.worker_id, pid)))


class Child:
    def __init__(
        self,
        spawn: messages.Spawn,
        sock: socket.socket,
        stacks: int,
        shared: Board,
    ) -> None:
        self.sock = sock
        self.role = spawn.role
        self.row = shared.row(spawn.number)
        self.habits = set(FAKE.get(spawn.role, ()))
        if self.role == "worker" and BOOTS:
            self._first_only()
        self.frozen = "frozen" in self.habits
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if "stubborn" in self.habits:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        import faulthandler

        for number in (signal.SIGUSR1, signal.SIGUSR2):
            faulthandler.register(number, file=stacks, all_threads=True)

    def _first_only(self) -> None:
        """Only the first worker ever has the habits, whoever comes first."""
        try:
            os.close(os.open(BOOTS, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self.habits = set()

    def say(self, message: messages.Message) -> None:
        self.sock.send(encode(message))

    def live(self) -> None:
        self.say(messages.Booted(os.getpid()))
        if "boot_fail" in self.habits:
            self.say(messages.BootFailed("hook", "on_startup raised ValueError: no"))
            os._exit(70)
        if "boot_crash" in self.habits:
            os.kill(os.getpid(), signal.SIGKILL)
        if "lost" in self.habits:
            self.say(messages.StorageLost("connection refused"))
        else:
            self.row.set(board.BEAT, time.monotonic_ns())
            self.say(messages.Ready())
        if "refused" in self.habits:
            self.say(messages.StorageLost("the connection broke"))
            self.say(messages.StorageLost("NOAUTH", refused=True))
        self._begin_jobs()
        if "litter" in self.habits:
            litter()
        if "garbage" in self.habits:
            self.sock.send(b"\xff garbage")
        if "leave" in self.habits:
            self.sock.close()
            time.sleep(60)
        while True:
            self._turn()

    def _begin_jobs(self) -> None:
        now = time.monotonic_ns()
        if "busy" in self.habits:
            self.row.begin(0, 7, now, 0, "job-7", "shop.slow")
        if "overdue" in self.habits:
            self.row.begin(0, 8, now - 2 * 10**9, now - 10**9, "job-8", "shop.endless")

    def _turn(self) -> None:
        if not self.frozen:
            self.row.set(board.BEAT, time.monotonic_ns())
        if "empty" in self.habits:
            self.say(messages.Empty())
        ready, _, _ = select.select([self.sock], [], [], 0.2)
        if not ready or "deaf" in self.habits:
            time.sleep(0.05)
            return
        packet = self.sock.recv(131072)
        if not packet:
            os._exit(0)
        self._obey(decode_to_child(packet))

    def _obey(self, message: messages.Message) -> None:
        note(self.role, message)
        match message:
            case messages.RecoverWorker(worker_id):
                done = len(message.running)
                self.say(messages.WorkerRecovered(worker_id, done, 0, 0))
            case messages.Count():
                depth = messages.Depth("default", 3, 1, 0, 2, False)
                self.say(messages.Counted((depth,)))
            case messages.Retire():
                self._leave()
            case messages.Interrupt():
                self._leave(interrupted=1)
            case messages.Drain() if self.role == "worker" and "busy" not in self.habits:
                self._leave()

    def _leave(self, interrupted: int = 0) -> None:
        self.say(messages.Drained(0, 0, interrupted))
        if "linger" in self.habits:
            time.sleep(60)
        os._exit(0)


def litter() -> None:
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(3)
        os._exit(0)
    os.waitpid(middle, 0)


def note(role: str, message: messages.Message) -> None:
    """Write down what was heard, for the test to read."""
    path = os.environ.get("FAKE_LEDGER")
    if path:
        with open(path, "ab", buffering=0) as file:
            file.write(json.dumps([role, json.loads(encode(message))]).encode() + b"\n")


if __name__ == "__main__":
    main()

"""A worker or scheduler that is not forked: a new interpreter that imports the app by itself.

`python -m taskqd.worker.zygote.exec_child`, started by the zygote where a fork is not safe, or not wanted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from os import close, posix_spawn
from socket import socket

import msgspec

from taskqd.ipc.channel import say
from taskqd.ipc.messages import BootFailed, ChildContext, Spawn
from taskqd.worker.host import syscalls
from taskqd.worker.host.signals import reset_signals

EXEC_ENV = "TASKQD_FRESH_CONTEXT"


class ExecContext(msgspec.Struct, frozen=True):
    """What the zygote tells, as JSON in `EXEC_ENV`."""

    context: ChildContext
    spawn: Spawn
    cwd: str
    """Where the zygote was before it imported the app."""
    channel_fd: int
    stacks_fd: int
    pid_fd: int
    """Where the pid is written."""


def start(
    context: ChildContext, spawn: Spawn, cwd: str, fds: list[int], environ: Mapping[str, str]
) -> int:
    """Start the child in a new interpreter; returns its pid.  Raises ForkError."""
    channel_fd, stacks_fd = fds

    def launch(pid_fd: int) -> int:
        told = ExecContext(context, spawn, cwd, channel_fd, stacks_fd, pid_fd)
        return _execute(
            [sys.executable, "-m", "taskqd.worker.zygote.exec_child"],
            {**environ, EXEC_ENV: msgspec.json.encode(told).decode()},
            [*fds, context.board_fd, pid_fd],
        )

    return syscalls.launch_adopted(launch)


def _execute(argv: Sequence[str], environ: Mapping[str, str], fds: Sequence[int]) -> int:
    """Start a program that inherits `fds`; returns its pid.  No at-fork handler runs."""
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        return posix_spawn(argv[0], list(argv), dict(environ))
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)


def main() -> int:
    told = msgspec.json.decode(os.environ.pop(EXEC_ENV), type=ExecContext)
    # Before anything is imported that could start a thread.
    syscalls.leave_parent(told.pid_fd)
    os.chdir(told.cwd)
    syscalls.own_session()
    reset_signals()
    syscalls.become_child_of(told.context.master_pid)
    channel = socket(fileno=told.channel_fd)
    syscalls.ending(lambda: _run(told, channel))
    return 1


def _run(told: ExecContext, channel: socket) -> int:
    # What takes time to import, and the app, come when the zygote knows of us already.
    from taskqd.worker.child import NewChild
    from taskqd.worker.main import run_child

    from .app_loader import load_app_for_children, one_line

    try:
        loaded = load_app_for_children(told.context)
    except BaseException as error:
        say(channel, BootFailed("import", one_line(error)))
        return syscalls.EXIT_BOOT
    close(told.context.board_fd)
    return run_child(NewChild(loaded, told.spawn, channel, told.stacks_fd))


if __name__ == "__main__":
    sys.exit(main())

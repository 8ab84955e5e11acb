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
from taskqd.worker.host import syscalls as process
from taskqd.worker.host.signals import reset_signals

FRESH_ENV = "TASKQD_FRESH_CONTEXT"


class Fresh(msgspec.Struct, frozen=True):
    """What the zygote tells, as JSON in `FRESH_ENV`."""

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
        told = Fresh(context, spawn, cwd, channel_fd, stacks_fd, pid_fd)
        return _execute(
            [sys.executable, "-m", "taskqd.worker.zygote.exec_child"],
            {**environ, FRESH_ENV: msgspec.json.encode(told).decode()},
            [*fds, context.board_fd, pid_fd],
        )

    return process.launch_adopted(launch)


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
    told = msgspec.json.decode(os.environ.pop(FRESH_ENV), type=Fresh)
    # Before anything is imported that could start a thread.
    process.leave_parent(told.pid_fd)
    os.chdir(told.cwd)
    process.own_session()
    reset_signals()
    process.become_child_of(told.context.master_pid)
    channel = socket(fileno=told.channel_fd)
    process.ending(lambda: _live(told, channel))
    return 1


def _live(told: Fresh, channel: socket) -> int:
    # What takes time to import, and the app, come when the zygote knows of us already.
    from taskqd.worker.child import Newborn
    from taskqd.worker.main import live

    from .app_loader import load_family, one_line

    try:
        family = load_family(told.context)
    except BaseException as error:
        say(channel, BootFailed("import", one_line(error)))
        return process.EXIT_BOOT
    close(told.context.board_fd)
    return live(Newborn(family, told.spawn, channel, told.stacks_fd))


if __name__ == "__main__":
    sys.exit(main())

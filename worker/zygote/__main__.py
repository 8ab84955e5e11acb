"""The zygote: imports the app once and forks workers and the scheduler from it.

`python -m taskqd.worker.zygote`, started by the master with a `ChildContext` in its environment.
It runs in one thread and holds no connection.  Whatever user code has left that a fork would break is
looked for before every fork and told to the master; where threads would be lost, children are new
interpreters instead.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from os import close
from socket import socket

import msgspec

from taskqd.app import App
from taskqd.errors import ConfigError, HookFailed
from taskqd.ipc.channel import receive_with_fds, say
from taskqd.ipc.messages import (
    CONTEXT_ENV,
    ChildContext,
    Exit,
    Forked,
    ForkFailed,
    Loaded,
    LoadFailed,
    Spawn,
    Unsafe,
    decode_to_zygote,
)
from taskqd.jobs.exception_text import writable
from taskqd.settings import Settings, decode
from taskqd.storage import mask_url
from taskqd.worker.child import Family, Newborn
from taskqd.worker.host import syscalls as process
from taskqd.worker.host.signals import reset_signals
from taskqd.worker.host.title import Title
from taskqd.worker.main import live

from . import exec_child as fresh
from . import imported_files as sources
from .app_loader import load_family, one_line
from .fork_safety import Hygiene

EXIT_LOAD = 78


def main() -> int:
    context = read_context()
    process.own_session()
    reset_signals()
    process.die_with(context.master_pid, signal.SIGKILL)
    gc.disable()
    Title(f"zygote {context.generation}")
    channel = socket(fileno=context.channel_fd)
    cwd = os.getcwd()
    family = _load(context, channel)
    if family is None:
        return EXIT_LOAD
    born = serve(family, channel, cwd)
    if born is None:
        return 0
    # Only here, with the loop unwound, does a child begin its own life: its stack is as deep as
    # that of a program started by hand.
    process.ending(lambda: live(born))
    return 1


def read_context() -> ChildContext:
    """Return what the master says; tasks and the programs that they start do not see it."""
    text = os.environ.pop(CONTEXT_ENV, None)
    if text is None:
        raise SystemExit(f"taskqd.worker.zygote is started by the taskqd daemon ({CONTEXT_ENV})")
    return msgspec.json.decode(text, type=ChildContext)


# -- loading -----------------------------------------------------------------------------------


def _load(context: ChildContext, channel: socket) -> Family | None:
    """Import the app and tell the master of it; None where that fails."""
    settings = decode(context.settings)
    started = time.monotonic()
    try:
        family = load_family(context)
    except BaseException as error:
        _report_files(settings, channel, error)
        say(channel, LoadFailed("import", one_line(error), _traceback(error)))
        return None
    try:
        family.app.run_vital_hooks("before_fork")
    except HookFailed as error:
        _report_files(settings, channel, error)
        say(channel, LoadFailed(error.hook, str(error), _traceback(error.__cause__ or error)))
        return None
    gc.collect()
    # Nothing that lives now is ever collected or written to by a collection, so the pages stay
    # shared with the children.
    gc.freeze()
    _report_files(settings, channel)
    say(channel, _loaded(family.app, (time.monotonic() - started) * 1000))
    return family


def _report_files(settings: Settings, channel: socket, error: BaseException | None = None) -> None:
    if settings.reload:
        for report in sources.reports(error):
            say(channel, report)


def _loaded(app: App, import_ms: float) -> Loaded:
    return Loaded(
        app_name=app.name,
        storage_url=mask_url(app.storage_url),
        tasks=len(app.registry),
        queues=app.queues,
        periodic=len(app.periodic_tasks),
        import_ms=round(import_ms, 1),
    )


def _traceback(error: BaseException) -> str:
    """A ConfigError says it all; what a user's module raised needs its place."""
    if isinstance(error, ConfigError):
        return ""
    return writable("".join(traceback.format_exception(error))[-16_000:])


# -- serving -----------------------------------------------------------------------------------


def serve(family: Family, channel: socket, cwd: str) -> Newborn | None:
    """Bring a child into the world for each Spawn.

    Returns in a forked child with its birth, in the zygote at its end.  `cwd`: where new
    interpreters begin.
    """
    hygiene = Hygiene((channel.fileno(), family.context.board_fd), process.trial_fork)
    forks(family, hygiene, channel, [])
    while True:
        packet, fds = receive_with_fds(channel)
        if not packet:
            return None
        message = decode_to_zygote(packet)
        if isinstance(message, Exit):
            return None
        try:
            if forks(family, hygiene, channel, fds):
                pid = process.double_fork()
            else:
                pid = fresh.start(family.context, message, cwd, fds, os.environ)
        except process.ForkError as error:
            say(channel, ForkFailed(message.worker_id, str(error)))
            pid = -1
        if pid == 0:
            return _born(family, message, channel, fds)
        for fd in fds:
            close(fd)
        if pid > 0:
            say(channel, Forked(message.worker_id, pid))


def forks(family: Family, hygiene: Hygiene, channel: socket, fds: list[int]) -> bool:
    """Return whether children are forked, and not started as new interpreters; tell of what a fork
    breaks."""
    wanted = family.settings.workers.fork
    found = hygiene.look(fds)
    does = wanted == "always" or (wanted == "safe" and not found.threads)
    if news := hygiene.news(found):
        say(channel, Unsafe(news, forks=does))
    return does


def _born(family: Family, spawn: Spawn, zygote_channel: socket, fds: list[int]) -> Newborn:
    """Keep of the zygote's descriptors only what is this child's."""
    zygote_channel.close()
    close(family.context.board_fd)
    channel_fd, stacks_fd = fds
    return Newborn(family, spawn, socket(fileno=channel_fd), stacks_fd)


if __name__ == "__main__":
    sys.exit(main())

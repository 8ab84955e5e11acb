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
from taskqd.worker.child import LoadedApp, NewChild
from taskqd.worker.host import syscalls
from taskqd.worker.host.setup import Title
from taskqd.worker.host.signals import reset_signals
from taskqd.worker.main import run_child

from . import exec_child, imported_files
from .app_loader import load_app_for_children, one_line
from .fork_safety import ForkSafety

EXIT_LOAD = 78


def main() -> int:
    context = read_context()
    syscalls.own_session()
    reset_signals()
    syscalls.die_with(context.master_pid, signal.SIGKILL)
    gc.disable()
    Title(f"zygote {context.generation}")
    channel = socket(fileno=context.channel_fd)
    cwd = os.getcwd()
    loaded = _load(context, channel)
    if loaded is None:
        return EXIT_LOAD
    child = serve(loaded, channel, cwd)
    if child is None:
        return 0
    # Only here, with the loop unwound, does a child begin its own life: its stack is as deep as
    # that of a program started by hand.
    syscalls.ending(lambda: run_child(child))
    return 1


def read_context() -> ChildContext:
    """Return what the master says; tasks and the programs that they start do not see it."""
    text = os.environ.pop(CONTEXT_ENV, None)
    if text is None:
        raise SystemExit(f"taskqd.worker.zygote is started by the taskqd daemon ({CONTEXT_ENV})")
    return msgspec.json.decode(text, type=ChildContext)


# -- loading -----------------------------------------------------------------------------------


def _load(context: ChildContext, channel: socket) -> LoadedApp | None:
    """Import the app and tell the master of it; None where that fails."""
    settings = decode(context.settings)
    started = time.monotonic()
    try:
        loaded = load_app_for_children(context)
    except BaseException as error:
        _report_files(settings, channel, error)
        say(channel, LoadFailed("import", one_line(error), _traceback(error)))
        return None
    try:
        loaded.app.run_vital_hooks("before_fork")
    except HookFailed as error:
        _report_files(settings, channel, error)
        say(channel, LoadFailed(error.hook, str(error), _traceback(error.__cause__ or error)))
        return None
    gc.collect()
    # Nothing that lives now is ever collected or written to by a collection, so the pages stay
    # shared with the children.
    gc.freeze()
    _report_files(settings, channel)
    say(channel, _loaded(loaded.app, (time.monotonic() - started) * 1000))
    return loaded


def _report_files(settings: Settings, channel: socket, error: BaseException | None = None) -> None:
    if settings.reload:
        for report in imported_files.reports(error):
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


def serve(loaded: LoadedApp, channel: socket, cwd: str) -> NewChild | None:
    """Bring a child into the world for each Spawn.

    Returns in a forked child with its birth, in the zygote at its end.  `cwd`: where new
    interpreters begin.
    """
    fork_safety = ForkSafety((channel.fileno(), loaded.context.board_fd), syscalls.trial_fork)
    forks(loaded, fork_safety, channel, [])
    while True:
        packet, fds = receive_with_fds(channel)
        if not packet:
            return None
        message = decode_to_zygote(packet)
        if isinstance(message, Exit):
            return None
        try:
            if forks(loaded, fork_safety, channel, fds):
                pid = syscalls.double_fork()
            else:
                pid = exec_child.start(loaded.context, message, cwd, fds, os.environ)
        except syscalls.ForkError as error:
            say(channel, ForkFailed(message.worker_id, str(error)))
            pid = -1
        if pid == 0:
            return _keep_only_own(loaded, message, channel, fds)
        for fd in fds:
            close(fd)
        if pid > 0:
            say(channel, Forked(message.worker_id, pid))


def forks(loaded: LoadedApp, fork_safety: ForkSafety, channel: socket, fds: list[int]) -> bool:
    """Return whether children are forked, and not started as new interpreters; tell of what a fork
    breaks."""
    wanted = loaded.settings.workers.fork
    found = fork_safety.look(fds)
    does = wanted == "always" or (wanted == "safe" and not found.threads)
    if unreported := fork_safety.unreported(found):
        say(channel, Unsafe(unreported, forks=does))
    return does


def _keep_only_own(
    loaded: LoadedApp, spawn: Spawn, zygote_channel: socket, fds: list[int]
) -> NewChild:
    """Keep of the zygote's descriptors only what is this child's."""
    zygote_channel.close()
    close(loaded.context.board_fd)
    channel_fd, stacks_fd = fds
    return NewChild(loaded, spawn, socket(fileno=channel_fd), stacks_fd)


if __name__ == "__main__":
    sys.exit(main())

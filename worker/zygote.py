"""The zygote: imports the app once and forks workers and the scheduler from it.

`python -m taskqd.worker.zygote`, started by the master with a `ChildContext` in its environment.
It runs in one thread and holds no connection: whatever a fork would break is looked for after the
import and told to the master.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import socket
import sys
import time
import traceback

import msgspec

from taskqd import board
from taskqd.app import App
from taskqd.board import Board
from taskqd.errors import ConfigError
from taskqd.job import clip
from taskqd.loading import load_app
from taskqd.messages import (
    CONTEXT_ENV,
    ChildContext,
    Exit,
    Forked,
    ForkFailed,
    Loaded,
    LoadFailed,
    Message,
    Spawn,
    decode_to_zygote,
    encode,
)
from taskqd.settings import Settings, decode
from taskqd.storage import mask_url
from taskqd.storage.drivers import preload as preload_storage

from . import hygiene, kinds, process, sources
from .birth import Family, Newborn
from .channel import receive_with_fds
from .main import live
from .title import Title

EXIT_LOAD = 78


def main() -> int:
    context = read_context()
    process.own_session()
    process.reset_signals()
    process.die_with(context.master_pid, signal.SIGKILL)
    gc.disable()
    Title(f"zygote {context.generation}")
    channel = socket.socket(fileno=context.channel_fd)
    family = _load(context, channel)
    if family is None:
        return EXIT_LOAD
    born = serve(family, channel)
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


def _load(context: ChildContext, channel: socket.socket) -> Family | None:
    """Import the app and tell the master of it; None where that fails."""
    settings = decode(context.settings)
    started = time.monotonic()
    try:
        app = _import(settings)
        # What every child needs is imported here: its pages are shared, and a child boots at once.
        preload_storage(app.storage_url)
        kinds.preload(settings.workers)
    except BaseException as error:
        _report_files(settings, channel, error)
        _say(channel, LoadFailed("import", _one_line(error), _traceback(error)))
        return None
    app.run_hooks("before_fork")
    family = Family(context, settings, app, _map_board(context))
    unsafe = hygiene.unsafe((context.channel_fd, context.board_fd))
    gc.collect()
    # Nothing that lives now is ever collected or written to by a collection, so the pages stay
    # shared with the children.
    gc.freeze()
    _report_files(settings, channel)
    _say(channel, _loaded(app, (time.monotonic() - started) * 1000, unsafe))
    return family


def _report_files(
    settings: Settings, channel: socket.socket, error: BaseException | None = None
) -> None:
    if settings.reload:
        for report in sources.reports(error):
            _say(channel, report)


def _import(settings: Settings) -> App:
    if settings.reload:
        # It is trusted by the second, and who edits is faster.
        sys.dont_write_bytecode = True
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    app = load_app(settings.app)
    app.adopt(settings.storage, settings.limits, settings.scheduler)
    return app


def _loaded(app: App, import_ms: float, unsafe: tuple[str, ...]) -> Loaded:
    return Loaded(
        app_name=app.name,
        storage_url=mask_url(app.storage_url),
        tasks=len(app.registry),
        queues=app.queues,
        periodic=len(app.periodic_tasks),
        import_ms=round(import_ms, 1),
        unsafe=unsafe,
    )


def _one_line(error: BaseException) -> str:
    if isinstance(error, ConfigError):
        return clip(str(error))
    return clip(f"{type(error).__name__}: {error}")


def _traceback(error: BaseException) -> str:
    """A ConfigError says it all; what a user's module raised needs its place."""
    if isinstance(error, ConfigError):
        return ""
    return "".join(traceback.format_exception(error))[-16_000:]


def _map_board(context: ChildContext) -> Board:
    rows, slots = context.board_rows, context.board_slots
    memory = mmap.mmap(context.board_fd, board.size(rows, slots))
    os.close(context.board_fd)
    return Board(memoryview(memory), rows, slots)


# -- serving -----------------------------------------------------------------------------------


def serve(family: Family, channel: socket.socket) -> Newborn | None:
    """Fork a child for each Spawn.  Returns in a child with its birth, in the zygote at its end."""
    while True:
        packet, fds = receive_with_fds(channel)
        if not packet:
            return None
        message = decode_to_zygote(packet)
        if isinstance(message, Exit):
            return None
        try:
            pid = process.double_fork()
        except process.ForkError as error:
            _say(channel, ForkFailed(message.worker_id, str(error)))
            pid = -1
        if pid == 0:
            return _born(family, message, channel, fds)
        for fd in fds:
            os.close(fd)
        if pid > 0:
            _say(channel, Forked(message.worker_id, pid))


def _born(family: Family, spawn: Spawn, zygote_channel: socket.socket, fds: list[int]) -> Newborn:
    """Keep of the zygote's descriptors only what is this child's."""
    zygote_channel.close()
    channel_fd, stacks_fd = fds
    return Newborn(family, spawn, socket.socket(fileno=channel_fd), stacks_fd)


def _say(channel: socket.socket, message: Message) -> None:
    try:
        channel.send(encode(message))
    except OSError as error:
        # The master is gone; the end of file on the channel is next.
        print(f"taskqd: zygote: {type(message).__name__} not sent: {error}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

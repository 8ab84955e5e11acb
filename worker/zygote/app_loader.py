"""Imports the app: what all workers of one generation have in common, forked or not."""

from __future__ import annotations

import mmap
import os
import sys

from taskqd.app import App
from taskqd.errors import ConfigError
from taskqd.ipc import board
from taskqd.ipc.board import Board
from taskqd.ipc.messages import ChildContext
from taskqd.jobs.exception_text import message_of
from taskqd.jobs.job import clip
from taskqd.loading import load_app
from taskqd.settings import Settings, decode
from taskqd.storage.drivers import preload as preload_storage
from taskqd.worker.child import LoadedApp
from taskqd.worker.slots import kinds


def load_app_for_children(context: ChildContext) -> LoadedApp:
    """Raises whatever the app's modules raise when they are imported."""
    settings = decode(context.settings)
    kinds.prepare(settings.workers)
    app = _import(settings)
    # What every child needs is imported here: its pages are shared, and a child boots at once.
    preload_storage(app.storage_url)
    kinds.preload(settings.workers, app.storage_url)
    return LoadedApp(context, settings, app, _map_board(context))


def _import(settings: Settings) -> App:
    if settings.reload:
        # It is trusted by the second, and who edits is faster.
        sys.dont_write_bytecode = True
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    app = load_app(settings.app)
    app.adopt(settings.storage, settings.limits, settings.scheduler, settings.crypto)
    return app


def _map_board(context: ChildContext) -> Board:
    rows, slots = context.board_rows, context.board_slots
    # That of an older master is shorter.
    bytes_there = os.fstat(context.board_fd).st_size
    memory = mmap.mmap(context.board_fd, min(bytes_there, board.size(rows, slots)))
    return Board(memoryview(memory), rows, slots)


def one_line(error: BaseException) -> str:
    if isinstance(error, ConfigError):
        return clip(str(error))
    return clip(f"{type(error).__name__}: {message_of(error)}")

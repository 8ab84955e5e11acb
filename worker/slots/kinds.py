"""The kinds of slots by name.  Each is imported by the workers that use it, and by no other."""

from __future__ import annotations

from importlib import import_module

from taskqd.app import App
from taskqd.errors import ConfigError
from taskqd.ipc.board import Row
from taskqd.settings import WorkerSettings, slots_per_worker

from .base import JobRunner, MakeSlots, Slots
from .stop_state import StopState

_KINDS = {
    "process": ("process_slots", "ProcessSlots"),
    "thread": ("thread_slots", "ThreadSlots"),
    "greenlet": ("greenlets.slots", "GreenletSlots"),
    "asyncio": ("asyncio_slots", "AsyncioSlots"),
}


def prepare(settings: WorkerSettings) -> None:
    """Do what must come before the app is imported.  Raises ConfigError."""
    if settings.type == "greenlet":
        import_module("taskqd.worker.slots.greenlets.patch").patch()


def preload(settings: WorkerSettings, storage_url: str) -> None:
    """Import the kind.  Raises ConfigError for one that this version does not have."""
    _find(settings)
    if settings.type == "greenlet":
        import_module("taskqd.worker.slots.greenlets.patch").split_sockets(storage_url)


def settle_in(settings: WorkerSettings, app: App) -> None:
    """Make a forked process, and its app, ready for the kind."""
    if settings.type == "greenlet":
        import_module("taskqd.worker.slots.greenlets.slots").settle_in(
            app, slots_per_worker(settings)
        )


def make_slots(
    settings: WorkerSettings, row: Row, stop_state: StopState, runner: JobRunner
) -> Slots:
    return _find(settings)(row, slots_per_worker(settings), stop_state, runner)


def _find(settings: WorkerSettings) -> MakeSlots:
    found = _KINDS.get(settings.type)
    if found is None:
        raise ConfigError(
            f"workers.type = {settings.type!r}: not available; known are {', '.join(_KINDS)}"
        )
    module, name = found
    make: MakeSlots = getattr(import_module(f"taskqd.worker.slots.{module}"), name)
    return make

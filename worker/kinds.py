"""The kinds of slots by name.  Each is imported by the workers that use it, and by no other."""

from __future__ import annotations

from importlib import import_module

from taskqd.board import Row
from taskqd.errors import ConfigError
from taskqd.settings import WorkerSettings, slots_per_worker

from .slots import JobRunner, MakeSlots, Slots
from .stopping import Stopping

_KINDS = {
    "process": ("process_slot", "ProcessSlot"),
    "thread": ("threads", "ThreadSlots"),
    "asyncio": ("coroutines", "AsyncioSlots"),
}


def preload(settings: WorkerSettings) -> None:
    """Import the kind.  Raises ConfigError for one that this version does not have."""
    _find(settings)


def make_slots(settings: WorkerSettings, row: Row, stopping: Stopping, runner: JobRunner) -> Slots:
    return _find(settings)(row, slots_per_worker(settings), stopping, runner)


def _find(settings: WorkerSettings) -> MakeSlots:
    found = _KINDS.get(settings.type)
    if found is None:
        raise ConfigError(
            f"workers.type = {settings.type!r}: not available; known are {', '.join(_KINDS)}"
        )
    module, name = found
    make: MakeSlots = getattr(import_module(f"taskqd.worker.{module}"), name)
    return make

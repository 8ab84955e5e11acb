"""The timetable of a daemon under a simulated clock, and a log that keeps what it is told."""

from __future__ import annotations

from typing import Any

from taskqd.app import App
from taskqd.jobs.job import State
from taskqd.storage.base import Storage
from taskqd.worker.scheduler.ticker import Ticker

MINUTE = 60_000
NOON = 1_800_000_000_000 // MINUTE * MINUTE


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, **facts})

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


class Daemon:
    """The timetable of one daemon, with a clock of its own."""

    def __init__(self, storage: Storage, app: App, missed: str = "skip") -> None:
        self.now = NOON
        self.log = Told()
        self._storage = storage
        self._table = Ticker(app.periodic.read, missed, clock=lambda: self.now)

    def at(self, ms: int, *, rung: bool = False) -> None:
        """Do all that is due at this time; `rung`: the storage's bell has rung."""
        self.now = ms
        while self._table.fire(self._storage, self.log, look=rung) == 0.0:  # type: ignore[arg-type]
            rung = False


def fired(storage: Storage) -> list[int]:
    """Return the minutes after NOON for which there are jobs."""
    ids = [row.id for row in storage.jobs(State.QUEUED, "q")]
    return sorted((int(id.rpartition("@")[2]) - NOON) // MINUTE for id in ids)

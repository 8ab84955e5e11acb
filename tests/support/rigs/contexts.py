"""A master's context around a fleet, for what only reads it."""

from __future__ import annotations

from typing import Any

from taskqd.settings import HealthSettings, Settings
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.state.fleet import Fleet

from .fleets import NOW


class KeptLog:
    """A log that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, event: str, **keys: Any) -> None:
        self.events.append((event, keys))


def context_of(fleet: Fleet, bind: str | None = None, **changes: Any) -> MasterContext:
    """Return a context whose parts that touch processes are absent."""
    parts: dict[str, Any] = {
        "settings": Settings(app="shop:app", health=HealthSettings(bind=bind)),
        "log": KeptLog(),
        "clock": lambda: NOW,
        "fleet": fleet,
        "started_s": NOW - 60,
        "app_name": "shop",
    }
    absent = dict.fromkeys(
        (
            "chance",
            "zygote_argv",
            "environ",
            "node_id",
            "node_name",
            "board",
            "board_fd",
            "connections",
            "serials",
            "oom",
        )
    )
    return MasterContext(**{**absent, **parts, **changes})

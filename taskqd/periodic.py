"""A task with a rule: what the scheduler fires."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Any

from taskqd.cron import Rule
from taskqd.errors import ConfigError
from taskqd.job import Entry
from taskqd.task import Signature, Task

MISSED = ("skip", "once", "all")


class PeriodicTask:
    """One periodic task.  `next_after` is pure; `entry` encodes the job of one tick."""

    def __init__(
        self,
        name: str,
        task: Task[[], Any],
        rule: Rule,
        zone: tzinfo,
        missed: str | None,
        pack: Callable[[Signature[Any], int | None], Entry],
    ) -> None:
        if not hasattr(rule, "next_after"):
            raise ConfigError(
                f"periodic task {name!r}: rule {rule!r}; expected crontab(...) or every(...)"
            )
        if missed is not None and missed not in MISSED:
            raise ConfigError(
                f"periodic task {name!r}: missed = {missed!r}; expected one of {MISSED}"
            )
        self.name = name
        self.task = task
        self.rule = rule
        self.zone = zone
        self.missed = missed
        self._pack = pack

    def __repr__(self) -> str:
        return f"<periodic task {self.name} {self.rule!r}>"

    @property
    def queue(self) -> str:
        return self.task.settings.queue

    def next_after(self, ms: int) -> int | None:
        """Return the first tick later than `ms` (both Unix milliseconds)."""
        return self.rule.next_after(ms, self.zone)

    def entry(self, tick_ms: int) -> Entry:
        """Return the job of a tick.  Its id is made of name and tick: the same for all daemons."""
        signature = Signature(self.task, (), {}, {"id": tick_id(self.name, tick_ms)})
        return self._pack(signature, tick_ms)


def tick_id(name: str, tick_ms: int) -> str:
    """Return a job id for a tick: readable where the name is short, else hashed."""
    text = f"{name}@{tick_ms}"
    if len(text) <= 64:
        return text.replace("<", "_").replace(">", "_")
    import hashlib

    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[-20:]}:{digest}@{tick_ms}".replace("<", "_").replace(">", "_")

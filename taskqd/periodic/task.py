"""A task with a rule: what the scheduler fires."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any, Literal, Protocol, Self

from taskqd.client.task import Signature, Task
from taskqd.errors import ConfigError
from taskqd.jobs.job import ID_PATTERN, Entry
from taskqd.periodic.cron import Rule
from taskqd.settings import Missed

__all__ = ["MISSED", "Missed", "Overlap", "PeriodicTask"]

Overlap = Literal["allow", "skip"]
MISSED = ("skip", "once", "all")
OVERLAP = ("allow", "skip")


_FOREIGN = re.compile(r"[^A-Za-z0-9_.:@/+-]")


class PeriodicApp(Protocol):
    """What a periodic task needs of its app."""

    tick_zone: tzinfo
    """Of tasks that name none."""

    def entry(self, signature: Signature[Any], tick_ms: int | None = None) -> Entry: ...


class PeriodicTask:
    """One periodic task.  `next_after` is pure; `entry` encodes the job of one tick."""

    def __init__(
        self,
        name: str,
        task: Task[..., Any],
        rule: Rule,
        app: PeriodicApp,
        *,
        zone: tzinfo | None = None,
        missed: str | None = None,
        overlap: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        declared: bool = True,
    ) -> None:
        check_policies(name, task, rule, missed, overlap)
        self.name = name
        self.task = task
        self.rule = rule
        self.missed = missed
        self.overlap = overlap or "allow"
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.declared = declared
        """In the app's code; else made at run time."""
        self.paused = False
        self.since_ms = 0
        """Ticks up to here are none of its."""
        self._app = app
        self._zone = zone

    def __repr__(self) -> str:
        return f"<periodic task {self.name} {self.rule!r}>"

    @property
    def queue(self) -> str:
        return self.task.settings.queue

    @property
    def zone(self) -> tzinfo:
        return self._zone or self._app.tick_zone

    def held(self, *, paused: bool, since_ms: int) -> Self:
        """Return the same task as it was paused or resumed at run time."""
        twin = copy.copy(self)
        twin.paused, twin.since_ms = paused, since_ms
        return twin

    def next_after(self, ms: int) -> int | None:
        """Return the first tick later than `ms` (both Unix milliseconds)."""
        return self.rule.next_after(ms, self.zone)

    def entry(self, tick_ms: int) -> Entry:
        """Return the job of a tick.  Its id is made of name and tick: the same for all daemons."""
        return self._pack({"id": tick_id(self.name, tick_ms)}, tick_ms)

    def extra_entry(self) -> Entry:
        """Return a job out of turn, which is no tick."""
        return self._pack({}, None)

    def _pack(self, options: dict[str, Any], tick_ms: int | None) -> Entry:
        signature = Signature(self.task, self.args, self.kwargs, options)
        entry = self._app.entry(signature, tick_ms)
        if self.overlap == "skip":
            # The key is the storage's, so it holds over all daemons and through their crashes.
            return entry._replace(unique=f"periodic:{self.name}", unique_until="done")
        return entry


def check_policies(
    name: str, task: Task[..., Any], rule: object, missed: str | None, overlap: str | None
) -> None:
    """Raises ConfigError where a rule or policy is none."""
    if not hasattr(rule, "next_after"):
        raise ConfigError(
            f"periodic task {name!r}: rule {rule!r}; expected crontab(...) or every(...)"
        )
    for what, value, known in (("missed", missed, MISSED), ("overlap", overlap, OVERLAP)):
        if value is not None and value not in known:
            raise ConfigError(
                f"periodic task {name!r}: {what} = {value!r}; expected one of {known}"
            )
    if overlap == "skip" and task.settings.unique is not None:
        raise ConfigError(
            f"periodic task {name!r}: overlap = 'skip' and unique = {task.settings.unique!r};"
            " a job has one key: give one of them"
        )


def tick_id(name: str, tick_ms: int) -> str:
    """Return a job id for a tick: readable where the name is short, else hashed."""
    text = f"{name}@{tick_ms}"
    if ID_PATTERN.fullmatch(text):
        return text
    import hashlib

    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{_FOREIGN.sub('_', name[-20:])}:{digest}@{tick_ms}"

"""`app.periodic`: the periodic tasks that the app declares and those that were made at run time.

What is made, changed or paused here is kept in the storage, for all daemons, until it is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypedDict, Unpack

import msgspec

from taskqd.client import delivery
from taskqd.client.result import Result, ResultApp
from taskqd.client.task import Task
from taskqd.errors import ConfigError
from taskqd.execution.task_lock import TaskLock
from taskqd.listeners import Listeners
from taskqd.periodic import schedule
from taskqd.periodic.compile import ScheduleApp, ScheduleCompiler
from taskqd.periodic.cron import Rule, zone_of
from taskqd.periodic.schedule import Schedule
from taskqd.periodic.task import Missed, Overlap, PeriodicTask, check_policies
from taskqd.storage.features import Features

_LOCK_S = 10.0
NAME_MAX = 200


class AgendaApp(ScheduleApp, ResultApp, Protocol):
    """What these methods need of their app."""

    tick_missed: Missed
    listeners: Listeners
    immediate: bool

    @property
    def features(self) -> Features: ...

    def run_immediately(self) -> None: ...


class ScheduleChanges(TypedDict, total=False):
    """What `change` takes; None for a policy or the zone: the default again."""

    task: Task[..., Any] | str
    when: Rule
    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    timezone: str | None
    missed: Missed | None
    overlap: Overlap | None


class PeriodicRow(NamedTuple):
    """A periodic task as introspection sees it."""

    name: str
    task: str
    rule: str
    timezone: str
    missed: str
    overlap: str
    declared: bool
    """In the app's code; else made at run time."""
    paused: bool
    next_at: datetime | None
    """None: paused, broken, or there is none any more."""
    last_at: datetime | None
    """The newest tick that fired."""
    error: str = ""
    """Why it cannot tick."""


class Agenda:
    """Call it for a list; its methods add, change, pause, resume, remove and run."""

    def __init__(self, app: AgendaApp) -> None:
        self._app = app
        self._compiler = ScheduleCompiler(app)
        self.read = self._compiler.read

    # -- looking -----------------------------------------------------------------------------

    def __call__(self) -> list[PeriodicRow]:
        """Return all periodic tasks, by name."""
        stored = self._app.features.schedules()
        reading = self._compiler.read(stored)
        rows = [self._row(task) for task in reading.tasks]
        rows += [_broken_row(name, error) for name, error in reading.broken.items()]
        return sorted(rows, key=lambda row: row.name)

    def find(self, name: str) -> PeriodicTask:
        """Raises ConfigError where there is none of that name, or it cannot tick."""
        reading = self._compiler.read(self._app.features.schedules())
        for task in reading.tasks:
            if task.name == name:
                return task
        if name in reading.broken:
            raise ConfigError(f"periodic task {name!r}: {reading.broken[name]}")
        raise self._unknown(name, [task.name for task in reading.tasks])

    # -- changing ----------------------------------------------------------------------------

    def add(
        self,
        name: str,
        task: Task[..., Any] | str,
        when: Rule,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timezone: str | None = None,
        missed: Missed | None = None,
        overlap: Overlap | None = None,
    ) -> bool:
        """Let a task tick from now on.  False: the very same is there already.

        Raises ConfigError where the name is taken by another one or an option is not valid,
        BadArguments where the arguments do not fit the task.
        """
        if not (0 < len(name) <= NAME_MAX and name.isprintable()):
            raise ConfigError(f"schedule {name!r}: expected a name of 1 to {NAME_MAX} letters")
        if self._compiler.declared(name) is not None:
            raise ConfigError(f"schedule {name!r}: a periodic task of that name is declared")
        made = self._made(
            name, Schedule(since_ms=self._app.clock.now_ms()), task=task, when=when, args=args, kwargs=kwargs,
            timezone=timezone, missed=missed, overlap=overlap,
        )  # fmt: skip
        with self._changing(name):
            data = self._app.features.schedules().get(name)
            if data is None:
                self._put(name, made)
                return True
            known = self._compiler.open(name, data)
            if self._same(name, made, known):
                return False
        raise ConfigError(f"schedule {name!r} exists already and differs; use app.periodic.change")

    def change(self, name: str, **changes: Unpack[ScheduleChanges]) -> None:
        """Change what is given.  With another rule or zone it ticks by that from now on.

        Raises ConfigError for one that is declared in the app, or unknown.
        """
        with self._changing(name):
            known = self._stored(name)
            made = self._made(name, known, **changes)
            if _rhythm(made) != _rhythm(known):
                made = msgspec.structs.replace(made, since_ms=self._app.clock.now_ms())
            self._put(name, made)

    def pause(self, name: str) -> bool:
        """Let it tick no more, on all daemons, until `resume`.  False: it was paused."""
        return self._hold(name, paused=True)

    def resume(self, name: str) -> bool:
        """Let it tick again; ticks of the pause are not missed, they never were.  False: it was
        not paused."""
        return self._hold(name, paused=False)

    def remove(self, name: str) -> bool:
        """Forget one that was made at run time.  False: there is none.

        Raises ConfigError for one that is declared: it can be paused.
        """
        if self._compiler.declared(name) is not None:
            raise ConfigError(
                f"periodic task {name!r} is declared in the app: remove it there, or pause it"
            )
        with self._changing(name):
            return self._app.features.schedule_drop(name)

    def run(self, name: str) -> Result[Any] | None:
        """Enqueue its job now, beside its ticks.

        None: the job of the last tick is not over, and the task does not overlap.
        """
        app, periodic = self._app, self.find(name)
        entry = periodic.extra_entry()
        [is_new] = delivery.deliver(app.storage, [entry])
        if not is_new:
            return None
        delivery.tell_enqueued(app.listeners, entry, periodic.task.name)
        if app.immediate:
            app.run_immediately()
        return Result(app, entry.id, entry.queue, periodic.task.codec.decode_result)

    # -- how ---------------------------------------------------------------------------------

    def _changing(self, name: str) -> TaskLock:
        """Return what keeps two changes of one schedule apart."""
        return TaskLock(self._app, f"periodic:{name}", _LOCK_S, _LOCK_S)

    def _put(self, name: str, made: Schedule) -> None:
        data = schedule.encode(name, made, self._app.name, self._app.signer)
        self._app.features.schedule_put(name, data)

    def _stored(self, name: str) -> Schedule:
        """Return one that was made at run time.  Raises ConfigError where there is none."""
        if self._compiler.declared(name) is not None:
            raise ConfigError(
                f"periodic task {name!r} is declared in the app: change it there;"
                " at run time it can be paused and resumed"
            )
        stored = self._app.features.schedules()
        if name not in stored:
            raise self._unknown(name, list(stored))
        return self._compiler.open(name, stored[name])

    def _hold(self, name: str, *, paused: bool) -> bool:
        with self._changing(name):
            if self._compiler.declared(name) is None:
                known = self._stored(name)
            else:
                data = self._app.features.schedules().get(name)
                known = Schedule() if data is None else self._compiler.open(name, data)
            if known.paused == paused:
                return False
            since_ms = known.since_ms if paused else self._app.clock.now_ms()
            self._put(name, msgspec.structs.replace(known, paused=paused, since_ms=since_ms))
            return True

    def _made(self, name: str, base: Schedule, **changes: Any) -> Schedule:
        """Return `base` with checked changes."""
        unknown = sorted(changes.keys() - ScheduleChanges.__annotations__.keys())
        if unknown:
            known = ", ".join(ScheduleChanges.__annotations__)
            raise ConfigError(f"schedule {name!r}: unknown change {unknown[0]!r}; known: {known}")
        task = self._task(changes.get("task", base.task))
        fields: dict[str, Any] = {
            key: changes[key] for key in ("timezone", "missed", "overlap") if key in changes
        }
        if "when" in changes:
            fields["every_ms"], fields["crontab"] = schedule.rule_fields(name, changes["when"])
        if changes.keys() & {"task", "args", "kwargs"}:
            kept: tuple[Any, Any] = ((), {})
            if not {"args", "kwargs"} <= changes.keys():
                kept = self._compiler.call_of(name, task, base)
            args, kwargs = changes.get("args", kept[0]), changes.get("kwargs", kept[1])
            fields["call"] = self._compiler.seal_call(name, task, tuple(args), dict(kwargs or {}))
        made = msgspec.structs.replace(base, task=task.name, **fields)
        zone_of(made.timezone or "UTC")
        check_policies(name, task, made.rule, made.missed, made.overlap)
        return made

    def _same(self, name: str, made: Schedule, known: Schedule) -> bool:
        """Return whether two schedules say the same, however their arguments are kept."""
        task = self._task(made.task)
        twin = msgspec.structs.replace(
            made, since_ms=known.since_ms, paused=known.paused, call=known.call
        )
        return twin == known and self._compiler.call_of(name, task, made) == self._compiler.call_of(
            name, task, known
        )

    def _task(self, task: Task[..., Any] | str) -> Task[..., Any]:
        return self._app.find_task(task if isinstance(task, str) else task.name)

    def _unknown(self, name: str, known: Sequence[str]) -> ConfigError:
        names = ", ".join(sorted(known)) or "none"
        return ConfigError(f"no periodic task {name!r} in app {self._app.name!r}; known: {names}")

    def _row(self, task: PeriodicTask) -> PeriodicRow:
        next_ms = None if task.paused else task.next_after(self._app.clock.now_ms())
        return PeriodicRow(
            task.name,
            task.task.name,
            repr(task.rule),
            str(task.zone),
            task.missed or self._app.tick_missed,
            task.overlap,
            task.declared,
            task.paused,
            _moment(next_ms),
            _moment(self._app.storage.last_tick(task.name)),
        )


def _rhythm(kept: Schedule) -> tuple[int, str, str | None]:
    return kept.every_ms, kept.crontab, kept.timezone


def _moment(unix_ms: int | None) -> datetime | None:
    return None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)


def _broken_row(name: str, error: str) -> PeriodicRow:
    return PeriodicRow(name, "", "", "", "", "", False, False, None, None, error)

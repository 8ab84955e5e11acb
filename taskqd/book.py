"""What an app makes of the schedules in its storage: periodic tasks, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from taskqd import schedule
from taskqd.cron import zone_of
from taskqd.errors import ConfigError, TaskqdError
from taskqd.periodic import Home, PeriodicTask
from taskqd.schedule import Schedule
from taskqd.signing import Signer
from taskqd.task import Task


class Declaring(Home, Protocol):
    """What a book needs of its app."""

    name: str
    signer: Signer | None
    periodic_tasks: list[PeriodicTask]

    def find_task(self, name: str) -> Task[Any, Any]: ...


class Reading(NamedTuple):
    """What the app makes of the schedules in its storage."""

    tasks: list[PeriodicTask]
    broken: dict[str, str]
    """Name -> what is wrong."""


class Book:
    def __init__(self, app: Declaring) -> None:
        self._app = app

    def read(self, stored: Mapping[str, bytes]) -> Reading:
        """Return what ticks: declared tasks, and those of these definitions.  Never raises."""
        tasks = {task.name: task for task in self._app.periodic_tasks}
        broken: dict[str, str] = {}
        for name, data in stored.items():
            try:
                tasks[name] = self._compile(name, self.open(name, data))
            except TaskqdError as error:
                broken[name] = str(error)
        return Reading(list(tasks.values()), broken)

    def declared(self, name: str) -> PeriodicTask | None:
        return next((task for task in self._app.periodic_tasks if task.name == name), None)

    def open(self, name: str, data: bytes) -> Schedule:
        return schedule.decode(name, data, self._app.name, self._app.signer)

    def _compile(self, name: str, kept: Schedule) -> PeriodicTask:
        declared = self.declared(name)
        if not kept.task:
            if declared is None:
                raise ConfigError("no periodic task of that name is declared in the app")
            return declared.held(paused=kept.paused, since_ms=kept.since_ms)
        if declared is not None:
            raise ConfigError("the app declares a periodic task of that name too; that one counts")
        task = self._app.find_task(kept.task)
        args, kwargs = call_of(task, kept)
        if misfit := task.codec.fits(args, kwargs):
            raise ConfigError(misfit)
        made = PeriodicTask(
            name,
            task,
            kept.rule,
            self._app,
            zone=None if kept.timezone is None else zone_of(kept.timezone),
            missed=kept.missed,
            overlap=kept.overlap,
            args=args,
            kwargs=kwargs,
            declared=False,
        )
        return made.held(paused=kept.paused, since_ms=kept.since_ms)


def call_of(
    task: Task[..., Any], kept: Schedule
) -> tuple[list[Any] | tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a schedule.  Raises DecodeError where they do not fit (any more)."""
    return task.codec.decode_call(bytes(kept.args) or None, bytes(kept.kwargs) or None)

"""What an app makes of the schedules in its storage: periodic tasks, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from taskqd.client.task import Task
from taskqd.crypto.sealing import Sealer
from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, DecodeError, TaskqdError
from taskqd.periodic import schedule
from taskqd.periodic.cron import zone_of
from taskqd.periodic.schedule import Schedule
from taskqd.periodic.task import PeriodicApp, PeriodicTask

_pair = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode


class ScheduleApp(PeriodicApp, Protocol):
    """What a book needs of its app."""

    name: str
    signer: Signer | None
    sealer: Sealer | None
    periodic_tasks: list[PeriodicTask]

    def find_task(self, name: str) -> Task[Any, Any]: ...


class Reading(NamedTuple):
    """What the app makes of the schedules in its storage."""

    tasks: list[PeriodicTask]
    broken: dict[str, str]
    """Name -> what is wrong."""


class ScheduleCompiler:
    def __init__(self, app: ScheduleApp) -> None:
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

    def seal_call(
        self, name: str, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> msgspec.Raw:
        """Encode the arguments of a schedule.  Raises BadArguments, EncodeError."""
        sealer, data = self._app.sealer, b""
        if sealer is not None and sealer.pickles:
            task.codec.check(args, kwargs)
        else:
            positional, keyword = task.codec.encode_call(args, kwargs)
            data = b"[" + (positional or b"[]") + b"," + (keyword or b"{}") + b"]"
        if sealer is not None:
            data = sealer.seal_value(_subject(name), (args, kwargs), data)
        return msgspec.Raw(data)

    def call_of(
        self, name: str, task: Task[..., Any], kept: Schedule
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a schedule.  Raises DecodeError where they do not fit (any more)
        or are not kept in this app's way."""
        if not kept.call:
            return (), {}

        def decode(data: bytes) -> tuple[Any, dict[str, Any]]:
            try:
                args, kwargs = _pair(data)
            except msgspec.MsgspecError as error:
                raise DecodeError(f"its arguments: {error}") from None
            return task.codec.decode_call(bytes(args), bytes(kwargs))

        sealer, data = self._app.sealer, bytes(kept.call)
        opened = (
            decode(data) if sealer is None else sealer.unseal_value(_subject(name), data, decode)
        )
        return tuple(opened[0]), opened[1]

    def _compile(self, name: str, kept: Schedule) -> PeriodicTask:
        declared = self.declared(name)
        if not kept.task:
            if declared is None:
                raise ConfigError("no periodic task of that name is declared in the app")
            return declared.held(paused=kept.paused, since_ms=kept.since_ms)
        if declared is not None:
            raise ConfigError("the app declares a periodic task of that name too; that one counts")
        task = self._app.find_task(kept.task)
        args, kwargs = self.call_of(name, task, kept)
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


def _subject(name: str) -> str:
    return f"schedule {name}"

"""The command `taskqctl cron`: lists, runs, pauses and resumes periodic tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

import click

from taskqd.client.rows import iso
from taskqd.clock import now_ms
from taskqd.errors import ConfigError
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail

from .options import Options, Output, Row, command
from .target import open_app

if TYPE_CHECKING:
    from taskqd.periodic.manager import Agenda, PeriodicRow

COLUMNS = ("name", "rule", "timezone", "next_at", "last_at", "paused", "error")
NEXT_MAX = 10_000


def add_to(root: click.Group) -> None:
    root.add_command(cron)


@click.group()
def cron() -> None:
    """Periodic tasks, declared in the app and made at run time."""


@command(cron, "ls")
def cron_ls(options: Options) -> Output:
    """List periodic tasks with their next and last tick."""
    with _agenda(options) as agenda:
        return Output(rows=[_row(row) for row in agenda()], columns=COLUMNS)


@command(cron, "next")
@click.argument("which", metavar="NAME")
@click.option(
    "-n", "count", type=click.IntRange(1, NEXT_MAX), default=5, help="How many; default 5."
)
def cron_next(options: Options, which: str, count: int) -> Output:
    """Print the coming ticks of NAME in its time zone."""
    with _agenda(options) as agenda:
        task = agenda.find(which)
    if task.paused:
        common.complain([f"note: {which} is paused; these would be its ticks"])
    rows: list[Row] = []
    tick_ms: int | None = now_ms()
    while tick_ms is not None and len(rows) < count:
        tick_ms = task.next_after(tick_ms)
        if tick_ms is not None:
            rows.append({"at": _local(tick_ms, task.zone), "utc": iso(tick_ms)})
    return Output(rows=rows, columns=("at", "utc"))


@command(cron, "run")
@click.argument("which", metavar="NAME")
def cron_run(options: Options, which: str) -> Output:
    """Enqueue the job of NAME now, beside its ticks."""
    with _agenda(options) as agenda:
        task = agenda.find(which)
        result = agenda.run(which)
    if result is None:
        text = f"{which}: its last job is not over, and overlap is 'skip'; nothing enqueued"
        raise Fail(common.FAILED, text)
    return Output(
        facts={"name": which, "id": result.id, "task": task.task.name, "queue": task.queue}
    )


@command(cron, "pause")
@click.argument("which", metavar="NAME")
def cron_pause(options: Options, which: str) -> Output:
    """Let NAME tick no more, on all daemons, until `cron resume`."""
    with _agenda(options) as agenda:
        return Output(facts={"name": which, "paused": True, "changed": agenda.pause(which)})


@command(cron, "resume")
@click.argument("which", metavar="NAME")
def cron_resume(options: Options, which: str) -> Output:
    """Let NAME tick again; ticks of the pause do not come later."""
    with _agenda(options) as agenda:
        return Output(facts={"name": which, "paused": False, "changed": agenda.resume(which)})


@contextmanager
def _agenda(options: Options) -> Iterator[Agenda]:
    with open_app(options) as app:
        try:
            yield app.periodic
        except ConfigError as error:
            raise Fail(common.FAILED, str(error)) from None


def _row(row: PeriodicRow) -> Row:
    fields = row._asdict()
    for name in ("next_at", "last_at"):
        moment = fields[name]
        fields[name] = None if moment is None else iso(round(moment.timestamp() * 1000))
    return fields


def _local(tick_ms: int, zone: tzinfo) -> str:
    moment = datetime.fromtimestamp(tick_ms / 1000, UTC).astimezone(zone)
    return moment.isoformat(timespec="milliseconds" if tick_ms % 1000 else "seconds")

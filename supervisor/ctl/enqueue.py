"""The command `taskqctl enqueue`: makes a job of a call that is given in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from taskqd import errors
from taskqd.client.delivery import deliver
from taskqd.clock import now_ms
from taskqd.ids import checked_id, new_id
from taskqd.jobs.job import NAME_PATTERN, NOTHING, Entry, Envelope
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail

from .options import Options, Output, Row, command
from .target import complete_queue, complete_task, find_app, open_target

if TYPE_CHECKING:
    from taskqd.app import App

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_BAD_CALL = (errors.BadArguments, errors.EncodeError, errors.PayloadTooLarge, errors.UnknownTask)


def add_to(root: click.Group) -> None:
    command(root, "enqueue")(enqueue)


@click.argument("task", metavar="TASK", shell_complete=complete_task)
@click.option("--args", "call", metavar="JSON", default="[]", help="Arguments: [..] or {..}.")
@click.option("--kwargs", metavar="JSON", default="{}", help="Keyword arguments: {..}.")
@click.option(
    "--queue", metavar="NAME", shell_complete=complete_queue, help="Default: the task's queue."
)
@click.option("--priority", type=click.IntRange(0, 9), help="Higher first.")
@click.option("--delay", type=click.FloatRange(0), metavar="S", help="Not before S seconds.")
@click.option("--id", "job_id", metavar="ID", help="A job's own id: used twice, it is one job.")
def enqueue(options: Options, **call: Any) -> Output:
    """Enqueue one job.

    With an app (--app, or the configuration's) the arguments are checked against the task's
    signature; without one, the call is written as it is, to the queue given.
    """
    return Output(facts=enqueue_call(options, **call))


def enqueue_call(options: Options, task: str, call: str, kwargs: str, **call_options: Any) -> Row:
    """Enqueue one call; `call` is a JSON array, or an object that stands for `kwargs`."""
    positional, keyword = _read_call(call, kwargs)
    given = {name: value for name, value in call_options.items() if value is not None}
    if "job_id" in given:
        given["id"] = given.pop("job_id")
    try:
        app = find_app(options, needed=True)
        # What is wrong with the call is told before the storage is asked for anything.
        _entry(app, task, positional, keyword, given, now_ms())
    except (*_BAD_CALL, errors.ConfigError) as error:
        raise Fail(common.USAGE, f"nothing enqueued: {error}") from None
    with open_target(options, create=app is not None) as storage:
        entry = _entry(app, task, positional, keyword, given, storage.server_ms())
        (new,) = deliver(storage, [entry])
    return {"id": entry.id, "task": task, "queue": entry.queue, "new": new}


def _entry(
    app: App | None,
    task: str,
    positional: list[Any],
    keyword: dict[str, Any],
    call_options: dict[str, Any],
    now: int,
) -> Entry:
    if app is None:
        return _as_it_is(task, positional, keyword, now, **call_options)
    app.clock.refresh(lambda: now, after_s=0)
    bound = app.find_task(task).options(**call_options)
    return app.entry(bound.s(*positional, **keyword))


def _as_it_is(
    task: str,
    positional: list[Any],
    keyword: dict[str, Any],
    now: int,
    *,
    queue: str = "default",
    priority: int = 0,
    delay: float = 0.0,
    id: str | None = None,
) -> Entry:
    if not NAME_PATTERN.fullmatch(queue):
        raise errors.ConfigError(f"queue {queue!r}: expected letters, digits, '_', '.', '-'")
    envelope = Envelope(
        p=priority,
        t=task,
        a=_raw(positional),
        k=_raw(keyword),
        e=now,
    )
    run_at_ms = now + round(delay * 1000) if delay else 0
    job_id = new_id() if id is None else checked_id(id)
    return Entry(job_id, queue, _encode(envelope), run_at_ms, priority, fresh=id is None)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value)) if value else NOTHING


def _read_call(call: str, kwargs: str) -> tuple[list[Any], dict[str, Any]]:
    positional, keyword = _json(call, "--args"), _json(kwargs, "--kwargs")
    if isinstance(positional, dict) and not keyword:
        positional, keyword = [], positional
    if not isinstance(positional, list):
        raise Fail(common.USAGE, "--args: expected a JSON array like [1, 2], or an object")
    if not isinstance(keyword, dict):
        raise Fail(common.USAGE, '--kwargs: expected a JSON object like {"width": 200}')
    return positional, keyword


def _json(text: str, flag: str) -> Any:
    try:
        return _decode(text.encode())
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Fail(common.USAGE, f"{flag}: not JSON: {error}") from None

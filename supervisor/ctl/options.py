"""The options that all commands of taskqctl share, and the output that each of them returns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import click

from taskqd.settings import Settings

from .output import show_facts, show_rows

Row = dict[str, Any]


class Configured(NamedTuple):
    settings: Settings
    rows: list[Row]
    """key, value (secrets masked), origin."""
    warnings: list[str]


class Options(NamedTuple):
    """The options that all commands share."""

    env: Mapping[str, str]
    read_config: Callable[[Options], Configured]
    config: str | None = None
    storage: str | None = None
    namespace: str | None = None
    app: str | None = None
    name: str | None = None
    socket: str | None = None
    json: bool = False


class Output(NamedTuple):
    """What a command returns: `rows` (an array) or `facts` (an object), and its exit code."""

    rows: Iterable[Row] | None = None
    columns: tuple[str, ...] = ()
    """Columns of the table that people see; JSON has all fields."""
    facts: Row | None = None
    text: Iterable[str] | None = None
    """Lines for people, instead of the facts."""
    code: int = 0


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    if value and parameter.name:
        context.meta[parameter.name] = value
    return value


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, expose_value=False, callback=_keep, **settings)


_COMMON = (
    _option("-C", "--config", metavar="FILE", help="Configuration file."),
    _option("--storage", metavar="URL", help="Storage; default: the configuration's or the app's."),
    _option("--namespace", metavar="NAME", help="Name of the app whose jobs are meant."),
    _option("--app", metavar="APP", help="module:attribute; gives namespace and storage."),
    _option("--name", metavar="NAME", help="Name of the daemon's instance."),
    _option("--socket", metavar="PATH", help="Path of the daemon's admin socket."),
    _option("--json", is_flag=True, help="Write JSON: an array of rows, or an object."),
)


def with_shared_options(function: Any) -> Any:
    """Add the shared options to a command or group."""
    for option in reversed(_COMMON):
        function = option(function)
    return function


def command(group: click.Group, name: str) -> Callable[[Callable[..., Output]], click.Command]:
    """Declare a command whose function gets `Options` first and returns its `Output`."""

    def declare(function: Callable[..., Output]) -> click.Command:
        @functools.wraps(function)
        def run(**given: Any) -> int:
            options = options_of(click.get_current_context())
            return _put(options, function(options, **given))

        return group.command(name)(with_shared_options(run))

    return declare


def options_of(context: click.Context) -> Options:
    base: Options = context.find_root().obj
    given = {name: context.meta[name] for name in Options._fields if name in context.meta}
    return base._replace(**given)


def _put(options: Options, output: Output) -> int:
    if output.rows is not None:
        show_rows(output.rows, output.columns, as_json=options.json)
    else:
        show_facts(output.facts or {}, output.text, as_json=options.json)
    return output.code

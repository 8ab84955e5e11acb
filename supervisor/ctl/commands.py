"""The commands of taskqctl, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click

from taskqd import __version__
from taskqd.supervisor.cli import common as usage
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.cli.completion import answer, is_asked

from . import completion, cron, daemon, jobs, locks, storage
from .asked import Asked, Configured, Output, command, common
from .doctor import command as doctor
from .install import command as install
from .top import command as top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.version_option(__version__, "--version", message="taskqctl %(version)s")
def taskqctl() -> None:
    """Look into and steer taskqd: a running daemon, or the storage that keeps its jobs."""


@taskqctl.group("config")
def config_group() -> None:
    """What a daemon would be told."""


@command(config_group, "show")
@click.option("--origins", is_flag=True, help="Also say where each value comes from.")
def config_show(asked: Asked, origins: bool) -> Output:
    """Show every key of the configuration; secrets are masked."""
    configured = asked.read_config(asked)
    usage.complain(f"warning: {warning}" for warning in configured.warnings)
    columns = ("key", "value", "origin") if origins else ("key", "value")
    rows = [{column: row[column] for column in columns} for row in configured.rows]
    return Output(rows=rows, columns=columns)


@taskqctl.command("probe", add_help_option=False)
@click.argument("words", nargs=-1)
def probe(words: tuple[str, ...]) -> None:
    """Ask the daemon whether it is live or ready: `taskqctl probe live|ready`."""
    # Reached only where a shared option stands before the word: that way is not quick.
    raise Fail(usage.USAGE, "taskqctl: write `taskqctl probe live|ready [options]`, probe first")


_MODULES = (daemon, top, storage, jobs, cron, locks, doctor, install, completion)

for _module in _MODULES:
    _module.add_to(taskqctl)


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    read_config: Callable[[Asked], Configured],
) -> int:
    """Return the exit code."""
    asked = Asked(env, read_config)
    if is_asked("taskqctl", env):
        return answer(taskqctl, "taskqctl", env, asked)
    try:
        return usage.read_flags(taskqctl, "taskqctl", argv, asked) or 0
    except Fail as failure:
        usage.complain([str(failure)])
        return failure.code
    except KeyboardInterrupt:
        return 130

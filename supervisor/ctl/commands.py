"""The click group `taskqctl`, with the commands of all modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click

from taskqd import __version__
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.cli.completion import SHELLS, answer, is_asked, scripts

from . import cron, daemon, enqueue, jobs, locks, queues
from .doctor import command as doctor
from .install import command as install
from .options import Configured, Options, Output, command, with_shared_options
from .top import command as top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@with_shared_options
@click.version_option(__version__, "--version", message="taskqctl %(version)s")
def taskqctl() -> None:
    """Look into and steer taskqd: a running daemon, or the storage that keeps its jobs."""


@taskqctl.group("config")
def config_group() -> None:
    """What a daemon would be told."""


@command(config_group, "show")
@click.option("--origins", is_flag=True, help="Also say where each value comes from.")
def config_show(options: Options, origins: bool) -> Output:
    """Show every key of the configuration; secrets are masked."""
    configured = options.read_config(options)
    common.complain(f"warning: {warning}" for warning in configured.warnings)
    columns = ("key", "value", "origin") if origins else ("key", "value")
    rows = [{column: row[column] for column in columns} for row in configured.rows]
    return Output(rows=rows, columns=columns)


@taskqctl.command("probe", add_help_option=False)
@click.argument("words", nargs=-1)
def probe(words: tuple[str, ...]) -> None:
    """Ask the daemon whether it is live or ready: `taskqctl probe live|ready`."""
    # Reached only where a shared option stands before the word: that way is not quick.
    raise Fail(common.USAGE, "taskqctl: write `taskqctl probe live|ready [options]`, probe first")


@command(taskqctl, "completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(options: Options, shell: str) -> Output:
    """Print what makes a shell complete commands, options, queues and tasks.

    For bash: eval "$(taskqctl completion bash)"; for zsh the same with zsh; for fish:
    taskqctl completion fish | source.
    """
    found = list(scripts(shell))
    return Output(facts={"scripts": found}, text=found)


_MODULES = (daemon, top, queues, enqueue, jobs, cron, locks, doctor, install)

for _module in _MODULES:
    _module.add_to(taskqctl)


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    read_config: Callable[[Options], Configured],
) -> int:
    """Return the exit code."""
    options = Options(env, read_config)
    if is_asked("taskqctl", env):
        return answer(taskqctl, "taskqctl", env, options)
    try:
        return common.read_flags(taskqctl, "taskqctl", argv, options) or 0
    except Fail as failure:
        common.complain([str(failure)])
        return failure.code
    except KeyboardInterrupt:
        return 130

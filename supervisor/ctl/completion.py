"""`taskqctl completion`: what a shell has to read to complete both commands."""

from __future__ import annotations

import click

from taskqd.supervisor.cli.completion import SHELLS, scripts

from .asked import Asked, Output, command


def add_to(root: click.Group) -> None:
    command(root, "completion")(completion)


@click.argument("shell", type=click.Choice(SHELLS))
def completion(asked: Asked, shell: str) -> Output:
    """Print what makes a shell complete commands, options, queues and tasks.

    For bash: eval "$(taskqctl completion bash)"; for zsh the same with zsh; for fish:
    taskqctl completion fish | source.
    """
    found = list(scripts(shell))
    return Output(facts={"scripts": found}, text=found)

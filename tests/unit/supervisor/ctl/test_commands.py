"""The commands of taskqctl are documented and explain themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from taskqd.supervisor.ctl.commands import taskqctl

DOCS = (Path(__file__).parents[4] / "docs" / "commands.md").read_text()


def options(command: click.Command) -> dict[str, list[str]]:
    return {p.name or "": p.opts for p in command.params if isinstance(p, click.Option)}


def commands(
    group: click.Group, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


@pytest.mark.parametrize("name", [name for name, _ in commands(taskqctl)])
def test_every_command_of_taskqctl_is_documented_and_explains_itself(name: str) -> None:
    assert f"`{name}" in DOCS
    command = dict(commands(taskqctl))[name]
    assert command.help
    if name != "probe":
        assert "--json" in options(command)["json"]

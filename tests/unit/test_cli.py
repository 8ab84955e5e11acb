"""The command lines agree with the catalogue of keys and with the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

from taskqd.config.keys import KEYS
from taskqd.settings import Settings, WorkerSettings, WorkerType
from taskqd.supervisor.cli import main as cli
from taskqd.supervisor.ctl.commands import taskqctl
from taskqd.worker.slots import kinds

DOCS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


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


def flags(
    env: dict[str, str] | None = None, **given: str
) -> tuple[dict[str, object], dict[str, str]]:
    return {**dict.fromkeys(("config", *cli.KEY_OF_FLAG)), **given}, env or {}


def test_every_flag_of_taskqd_sets_the_key_that_names_it() -> None:
    found = options(cli.taskqd)
    for name, path in cli.KEY_OF_FLAG.items():
        if name != "app":
            assert KEYS[path].flag in found[name] or KEYS[path].flag == f"--no-{name}"
    assert set(found) - set(cli.KEY_OF_FLAG) == {"config", "check", "version"}
    assert {key.path for key in KEYS.values() if key.flag} == set(cli.KEY_OF_FLAG.values())


def test_every_flag_of_taskqd_is_documented() -> None:
    for names in options(cli.taskqd).values():
        for name in names:
            assert f"`{name}" in DOCS


@pytest.mark.parametrize("name", [name for name, _ in commands(taskqctl)])
def test_every_command_of_taskqctl_is_documented_and_explains_itself(name: str) -> None:
    assert f"`{name}" in DOCS
    command = dict(commands(taskqctl))[name]
    assert command.help
    if name != "probe":
        assert "--json" in options(command)["json"]


def test_auto_becomes_a_number_and_a_number_stays() -> None:
    assert cli.resolve_auto(Settings()).workers.count >= 1
    assert cli.resolve_auto(Settings(workers=WorkerSettings(count=3))).workers.count == 3


def test_flags_and_environment_make_settings() -> None:
    given, env = flags({"TASKQD_APP": "a:b"}, workers="3", scheduler="off", burst="on")
    settings = cli.load_settings(given, env).settings
    assert (settings.app, settings.workers.count) == ("a:b", 3)
    assert (settings.scheduler.enabled, settings.burst) == (False, True)


def test_every_type_of_worker_that_can_be_configured_is_there() -> None:
    assert {*get_args(WorkerType)} == {*kinds._KINDS}

"""The flags of taskqd agree with the catalogue of keys and with the documentation."""

from __future__ import annotations

from pathlib import Path

import click

from taskqd.config.keys import KEYS
from taskqd.settings import Settings, WorkerSettings
from taskqd.supervisor.cli import main as cli

DOCS = (Path(__file__).parents[4] / "docs" / "commands.md").read_text()


def options(command: click.Command) -> dict[str, list[str]]:
    return {p.name or "": p.opts for p in command.params if isinstance(p, click.Option)}


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


def test_auto_becomes_a_number_and_a_number_stays() -> None:
    assert cli.resolve_auto(Settings()).workers.count >= 1
    assert cli.resolve_auto(Settings(workers=WorkerSettings(count=3))).workers.count == 3


def test_flags_and_environment_make_settings() -> None:
    given, env = flags({"TASKQD_APP": "a:b"}, workers="3", scheduler="off", burst="on")
    settings = cli.load_settings(given, env).settings
    assert (settings.app, settings.workers.count) == ("a:b", 3)
    assert (settings.scheduler.enabled, settings.burst) == (False, True)

"""Loads the settings from flags, environment, file and defaults, with the origin of every key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from taskqd.settings import Settings

from .check import Chosen, choose, cross_check
from .environment import CONFIG, read_environment
from .file import read_file
from .given import Findings, Given
from .keys import KEYS
from .problems import ConfigErrors, Problem

DEFAULT = "default"


class LoadedConfig(NamedTuple):
    settings: Settings
    origins: dict[str, str]
    """Key -> ``prod.toml:3``, ``TASKQD_WORKERS``, ``--workers``, ``credential storage_url`` or
    ``default``."""
    warnings: list[str]


def load(*, file: Path | None, env: Mapping[str, str], flags: Mapping[str, object]) -> LoadedConfig:
    """Return the settings; flag wins over environment, credential, file and default, in this order.

    `file`: None takes TASKQD_CONFIG, if set.  `flags`: key path -> value as given (text or a TOML
    value); None stands for a flag that was not given.  Raises ConfigErrors with every error.
    """
    findings = Findings()
    given = [
        *_read_file(file, env, findings),
        *read_environment(env, findings),
        *_read_flags(flags),
    ]
    chosen = choose(given, findings)
    cross_check(chosen, findings)
    if findings.problems:
        raise ConfigErrors(sorted(findings.problems, key=_line))
    origins = {path: chosen[path].where if path in chosen else DEFAULT for path in KEYS}
    return LoadedConfig(_settings(chosen), origins, findings.warnings)


def _line(problem: Problem) -> tuple[bool, int]:
    """Order the file's problems by line, and leave the others after them in their order."""
    line = problem.where.rpartition(":")[2]
    return (False, int(line)) if line.isdecimal() else (True, 0)


def _read_file(file: Path | None, env: Mapping[str, str], findings: Findings) -> list[Given]:
    named = env.get(CONFIG)
    path = file or (Path(named) if named else None)
    return read_file(path, findings) if path else []


def _read_flags(flags: Mapping[str, object]) -> list[Given]:
    return [
        Given(path, value, KEYS[path].flag, is_text=isinstance(value, str))
        for path, value in flags.items()
        if value is not None
    ]


def _settings(chosen: Mapping[str, Chosen]) -> Settings:
    tree: dict[str, Any] = {}
    for path, (value, _) in chosen.items():
        _plant(tree, KEYS[path].target, value)
    if "queues.names" in chosen:
        _split_queues(tree["queues"])
    return msgspec.convert(tree, Settings)


def _plant(tree: dict[str, Any], path: str, value: Any) -> None:
    section, dot, name = path.partition(".")
    if dot:
        tree.setdefault(section, {})[name] = value
    else:
        tree[section] = value


def _split_queues(queues: dict[str, Any]) -> None:
    """Turn names with weights into names and weights; once one has a weight, the others have 1."""
    items = queues["names"]
    queues["names"] = tuple(item.name for item in items)
    if any(item.weight is not None for item in items):
        queues["weights"] = {item.name: item.weight or 1 for item in items}

"""The errors of a configuration, all reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskqd.errors import ConfigError


class Problem(NamedTuple):
    """One error.  Shown as ``prod.toml:3: workers.cuont: unknown key; did you mean "count"?``."""

    where: str
    """``prod.toml:3``, ``TASKQD_WORKERS__COUNT`` or ``--workers``."""
    key: str
    """Dotted; "" where the error is about the whole source."""
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class ConfigErrors(ConfigError):
    """The configuration has errors; `problems` holds every one of them, in order of their source."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

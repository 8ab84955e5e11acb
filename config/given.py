"""The values that a file, the environment or the flags give, not yet checked, and their problems.

Each reader gives `Given` values and adds to the problems and warnings of a `Findings`; none raises.
Later layers win over earlier ones: file, credentials, environment, flags.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .problems import Problem


class Given(NamedTuple):
    key: str
    value: Any
    where: str
    """``prod.toml:3``, ``TASKQD_WORKERS``, ``--workers``."""
    is_text: bool = False
    """Whether `value` is text, from which numbers and switches have yet to be read."""


class Findings:
    """Collects the problems, which are errors, and the warnings of a configuration."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def reject(self, where: str, key: str, text: str) -> None:
        self.problems.append(Problem(where, key, text))

    def warn(self, where: str, text: str) -> None:
        self.warnings.append(f"{where}: {text}")

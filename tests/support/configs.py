"""Configurations of tests: a file, an environment and flags, loaded as a daemon would load them."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskqd import config
from taskqd.config import ConfigErrors, LoadedConfig


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    """Write a configuration file and return its path."""
    file = folder / "prod.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def load(
    file: Path | None = None, env: dict[str, str] | None = None, **flags: object
) -> LoadedConfig:
    """Load a configuration; a flag is named after its key, with `__` for the dot."""
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return config.load(file=file, env=env or {}, flags=dotted)


def errors(
    file: Path | None = None, env: dict[str, str] | None = None, **flags: object
) -> list[str]:
    """Return the errors that loading finds, the folder of the file left out."""
    with pytest.raises(ConfigErrors) as caught:
        load(file, env, **flags)
    folder = f"{file.parent}/" if file else ""
    return [str(problem).replace(folder, "") for problem in caught.value.problems]

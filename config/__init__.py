"""The config wing: TOML, environment and flags -> `Settings`, or every error at once."""

from __future__ import annotations

from .load import LoadedConfig, load
from .problems import ConfigErrors, Problem

__all__ = ["ConfigErrors", "LoadedConfig", "Problem", "load"]

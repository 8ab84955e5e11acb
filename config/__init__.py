"""The config wing: TOML, environment and flags -> `Settings`, or every error at once."""

from __future__ import annotations

from .load import Loaded, load
from .problems import ConfigErrors, Problem

__all__ = ["ConfigErrors", "Loaded", "Problem", "load"]

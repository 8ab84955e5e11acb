"""What the annotations of a function say."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

_UNRESOLVED = (NameError, TypeError, AttributeError)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations by name, without those that exist for the type checker only."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except _UNRESOLVED:
        return _one_by_one(inspect.unwrap(function))


def _one_by_one(function: Callable[..., Any]) -> dict[str, Any]:
    known = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, note in getattr(function, "__annotations__", {}).items():
        holder = SimpleNamespace(__annotations__={name: note})
        with suppress(*_UNRESOLVED):
            hints |= typing.get_type_hints(holder, globalns=known, include_extras=True)
    return hints

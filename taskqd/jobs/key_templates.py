"""Names with the arguments of a call in them: "user:{user_id}".  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from taskqd.errors import ConfigError


def check(label: str, option: str, template: str, parameters: Sequence[str]) -> None:
    """Raise ConfigError where `fill` could not fill it for any call."""
    try:
        fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ConfigError(f"{label}: {option} = {template!r}: {error}") from None
    for field in fields:
        if re.split(r"[.\[]", field)[0] not in parameters:
            raise ConfigError(
                f"{label}: {option} = {template!r}: no parameter {field!r}; the parameters are"
                f" {', '.join(parameters) or 'none'}"
            )


def fill(label: str, template: str, arguments: Mapping[str, Any]) -> str:
    """Raises ConfigError where an argument has not what the template asks of it."""
    try:
        return template.format_map(arguments)
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{label}: template {template!r}: {error!r}; the parameters are {', '.join(arguments)}"
        ) from None

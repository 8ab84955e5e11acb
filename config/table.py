"""Writes values of keys as a file has them, and the catalogue as tables of docs/configuration.md.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskqd.settings import Settings
from taskqd.urls import mask_url

from .keys import KEYS, Key
from .values import MASK, size_text


def as_written(settings: Settings, key: Key) -> Any:
    """Return the key's value as a file would have it, secrets masked; None: nothing to write."""
    value: Any = settings
    for part in key.target.split("."):
        value = getattr(value, part)
    if key.secret:
        return [MASK] * len(value)
    for word, meant in key.kind.words.items():
        if value is meant or (value == meant and type(value) is type(meant)):
            return word
    if isinstance(value, str):
        return mask_url(value) if key.credential else value
    if isinstance(value, tuple):
        return list(value)
    return size_text(value) if "_bytes" in key.target else value


def written(settings: Settings, key: Key) -> str:
    """Return the text of `as_written` on one line; "" where there is nothing to write."""
    value = as_written(settings, key)
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown() -> str:
    """Return the tables of docs/configuration.md, one for each section of the file."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    section = None
    for key in KEYS.values():
        head = key.path.rpartition(".")[0]
        if head != section:
            section = head
            yield from ("", f"### `[{head}]`" if head else "### At the top of the file", "")
            yield "| key | value | default | environment | flag | meaning |"
            yield "|---|---|---|---|---|---|"
        yield _row(key)


def _row(key: Key) -> str:
    names = [f"`{name}`" for name in (key.env, key.short_env) if name]
    cells = (
        f"`{key.path.rpartition('.')[2]}`",
        key.kind.name,
        _code(written(Settings(), key)),
        ", ".join(names),
        _code(key.flag),
        key.about,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""

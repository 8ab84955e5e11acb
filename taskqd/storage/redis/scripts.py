"""The Lua scripts: read from their files, with the parts that they name put before them.

The first line of a script, ``-- uses: common record``, names its parts.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script `name`.lua, complete."""
    body = _read(name)
    text = "".join(_read(part) for part in _parts(body)) + body
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _parts(body: str) -> list[str]:
    first = body.partition("\n")[0]
    return first.removeprefix("-- uses:").split() if first.startswith("-- uses:") else []


@cache
def _read(name: str) -> str:
    return (resources.files(__package__) / f"{name}.lua").read_text("utf-8")

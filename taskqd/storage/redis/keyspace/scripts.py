"""The Lua scripts: read from their files, with what they use of the parts that they name before them.

The first line of a script, ``-- uses: common record``, names its parts.  A part is a row of local
functions, each ending with a line ``end``; those that a script does not use are left out, because
the server makes all functions of a script anew each time it runs.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

_PIECE = re.compile(r"^local function (\w+).*?^end\n", re.DOTALL | re.MULTILINE)


class Script(NamedTuple):
    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script `name`.lua, complete."""
    body = _read(name)
    text = _with_used("".join(map(_read, _parts(body))), body)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _parts(body: str) -> list[str]:
    first = body.partition("\n")[0]
    return first.removeprefix("-- uses:").split() if first.startswith("-- uses:") else []


def _with_used(parts: str, body: str) -> str:
    """Return `body` behind the functions that it uses, itself or by another one."""
    text, end = body, len(parts)
    for piece in reversed(list(_PIECE.finditer(parts))):
        text = parts[piece.end() : end] + text
        if re.search(rf"\b{piece[1]}\b", text):
            text = piece[0] + text
        end = piece.start()
    return parts[:end] + text


@cache
def _files() -> dict[str, Traversable]:
    """Return every script and part by its name: in a folder for each section of the contract."""
    sections = resources.files("taskqd.storage.redis").joinpath("lua").iterdir()
    files = (file for section in sections if section.is_dir() for file in section.iterdir())
    return {file.name.removesuffix(".lua"): file for file in files if file.name.endswith(".lua")}


@cache
def _read(name: str) -> str:
    return _files()[name].read_text("utf-8")

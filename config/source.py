"""Finds the lines of the keys of a TOML text; tomllib tells values, not lines.

law: `line_of_keys` is only given text that tomllib has accepted, so it checks nothing; it walks
over strings, arrays and inline tables just well enough to find the keys.  Pure.
(test_a_file_that_is_not_toml_is_told_with_its_line)
"""

from __future__ import annotations

import re

Path = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]*")


def line_of_keys(text: str) -> dict[Path, int]:
    """Return the line (from 1) on which each table and key first stands, by its path."""
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        start = self.at
        while self.text[self.at] == "[":
            self.at += 1
        path = self._path()
        while self.text[self.at : self.at + 1] == "]":
            self.at += 1
        self._note(path, start)
        return path

    def _pair(self, table: Path) -> None:
        start = self.at
        path = table + self._path()
        self._note(path, start)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _path(self) -> Path:
        parts = []
        while True:
            self._skip(_SPACE)
            parts.append(self._name())
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return tuple(parts)
            self.at += 1

    def _name(self) -> str:
        quoted = _STRING.match(self.text, self.at)
        found = quoted or _BARE.match(self.text, self.at)
        if found is None:
            raise ValueError(f"no key at offset {self.at}")
        self.at = found.end()
        return _unquote(found[0]) if quoted else found[0]

    def _value(self, path: Path) -> None:
        opening = self.text[self.at]
        if opening == "{":
            self._inline_table(path)
        elif opening == "[":
            self._array(path)
        elif opening in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while not self._closed("}"):
            self._pair(path)

    def _array(self, path: Path) -> None:
        self.at += 1
        while not self._closed("]"):
            self._value(path)

    def _closed(self, closing: str) -> bool:
        """Step over blanks and a comma; return whether the bracket closes here (and step over it)."""
        self._skip(_BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._skip(_BLANK)
        if self.text[self.at] != closing:
            return False
        self.at += 1
        return True

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()

    def _note(self, path: Path, offset: int) -> None:
        line = self.text.count("\n", 0, offset) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)


def _unquote(quoted: str) -> str:
    # A quoted key with escapes is no key of ours; its spelling is good enough to find its line.
    return quoted[1:-1]

"""Reads the configuration file: TOML -> given values, each with its line."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskqd.urls import has_secret

from .given import Findings, Given
from .keys import KEYS, SECTIONS, Key
from .source import line_of_keys
from .suggest import did_you_mean, nearest

_AT_LINE = re.compile(r"^(.*?) ?\(at (?:line (\d+), column \d+|end of document)\)$", re.DOTALL)
FILE_BYTES_MAX = 1024 * 1024


def read_file(path: Path, findings: Findings) -> list[Given]:
    """Return what the file gives; unreadable, not TOML, unknown keys: problems in `findings`."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        findings.reject(str(path), "", f"cannot be read: {reason}")
        return []
    if len(data) > FILE_BYTES_MAX:
        findings.reject(
            str(path), "", f"is larger than {FILE_BYTES_MAX} bytes: not a configuration"
        )
        return []
    given = parse(data, str(path), findings)
    _judge_mode(mode, path, given, findings)
    return given


def parse(data: bytes, name: str, findings: Findings) -> list[Given]:
    """As `read_file`, for the bytes of a file called `name`."""
    try:
        text = data.decode("utf-8-sig")
        tables = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        findings.reject(f"{name}:{line}", "", "not UTF-8, so not TOML")
        return []
    except tomllib.TOMLDecodeError as error:
        findings.reject(*_syntax_error(name, str(error), text))
        return []
    except RecursionError:
        findings.reject(name, "", "not a configuration: nested too deeply")
        return []
    return _Reader(name, line_of_keys(text.replace("\r\n", "\n")), findings).read(tables)


class _Reader:
    def __init__(self, name: str, lines: dict[tuple[str, ...], int], findings: Findings) -> None:
        self.name = name
        self.lines = lines
        self.findings = findings
        self.given: list[Given] = []

    def read(self, tables: Mapping[str, Any]) -> list[Given]:
        for word, value in tables.items():
            if word in SECTIONS:
                self._section(word, value)
            elif word in KEYS and "." not in word:
                self._take((word,), value)
            else:
                self._unknown_top(word, value)
        return self.given

    def _section(self, section: str, value: object) -> None:
        if not isinstance(value, dict):
            remedy = f"expected a table: [{section}]"
            self.findings.reject(self._where((section,)), section, remedy)
            return
        for word, inner in value.items():
            if f"{section}.{word}" in KEYS:
                self._take((section, word), inner)
            else:
                self._unknown_key(section, word)

    def _take(self, path: tuple[str, ...], value: object) -> None:
        self.given.append(Given(".".join(path), value, self._where(path)))

    def _unknown_top(self, word: str, value: object) -> None:
        if isinstance(value, dict | list):
            near = nearest(word, SECTIONS)
            text = "unknown section" + (f"; did you mean [{near}]?" if near else "")
        else:
            tops = [path for path in KEYS if "." not in path]
            text = "unknown key" + (_elsewhere(word) or did_you_mean(word, tops))
        self.findings.reject(self._where((word,)), word, text)

    def _unknown_key(self, section: str, word: str) -> None:
        here = [path.partition(".")[2] for path in KEYS if path.startswith(section + ".")]
        text = "unknown key" + (did_you_mean(word, here) or _elsewhere(word))
        self.findings.reject(self._where((section, word)), f"{section}.{word}", text)

    def _where(self, path: tuple[str, ...]) -> str:
        line = self.lines.get(path)
        return self.name if line is None else f"{self.name}:{line}"


def _elsewhere(word: str) -> str:
    """Return a suggestion where `word` is a key of another section."""
    path = next((path for path in KEYS if path.rpartition(".")[2] == word), None)
    return f'; did you mean "{path}"?' if path else ""


def _syntax_error(name: str, message: str, text: str) -> tuple[str, str, str]:
    match = _AT_LINE.match(message)
    if match is None:
        return name, "", f"not valid TOML: {message}"
    line = match[2] or text.rstrip().count("\n") + 1
    return f"{name}:{line}", "", f"not valid TOML: {match[1]}"


def _judge_mode(mode: int, path: Path, given: list[Given], findings: Findings) -> None:
    names_code = any(item.key == "app" for item in given)
    if names_code and mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if mode & stat.S_IWOTH else "its group"
        text = f"names code to run and can be written by {who} (mode {mode:04o}); chmod go-w it"
        findings.warn(str(path), text)
    secret = any(_is_secret(KEYS[item.key], item.value) for item in given)
    if secret and mode & stat.S_IROTH:
        findings.warn(str(path), f"holds a password and can be read by everybody (mode {mode:04o})")


def _is_secret(key: Key, value: object) -> bool:
    return key.secret or bool(key.credential and has_secret(str(value)))

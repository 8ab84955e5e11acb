"""Writes rows and facts to standard output: as JSON for tools, as a table for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.text import cell, plain

PAGE = 200
"""Number of rows whose columns are aligned together; a table of a million rows is never held whole."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def show_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Write an array of all fields, or a table of `columns`; rows may come lazily."""
    common.show(_json_array(rows) if as_json else _table(iter(rows), columns))


def show_facts(
    facts: Mapping[str, Any], text: Iterable[str] | None = None, *, as_json: bool
) -> None:
    """Write the facts as an object or, for people, as `text` or one field a line."""
    if as_json:
        common.show([_encode(facts).decode()])
    else:
        common.show(_fields(facts) if text is None else text)


def _json_array(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    comma = "["
    for row in rows:
        yield f"{comma}{_encode(row).decode()}"
        comma = ","
    yield "[]" if comma == "[" else "]"


def _table(rows: Iterator[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    head = [column.upper().replace("_", " ") for column in columns]
    page = list(islice(rows, PAGE))
    yield from _page(head, page, columns)
    while page := list(islice(rows, PAGE)):
        yield from _page(head, page, columns)


def _page(head: list[str], page: list[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    lines = [head, *([cell(row.get(column)) for column in columns] for row in page)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
        yield _cut("  ".join(padded))


def _fields(facts: Mapping[str, Any]) -> Iterator[str]:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if isinstance(value, str) and "\n" in value:
            yield f"{name}:"
            yield from (f"    {plain(line)}" for line in value.splitlines())
        else:
            yield f"{name:<{width}}  {cell(value)}".rstrip()


def _cut(line: str) -> str:
    line = line.rstrip()
    if sys.stdout is None or not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else line[: width - 1] + "…"

"""Output of commands: JSON for tools, tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from taskqd.supervisor.ctl.output import show_facts, show_rows

ROWS = [
    {"id": "a", "error": "line\none \x1b[31mred", "count": 3, "hidden": {"x": 1}},
    {"id": "longer", "error": None, "count": 12, "hidden": None},
]


def test_json_is_an_array_of_whole_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, ("id",), as_json=True)
    assert json.loads(capsys.readouterr().out) == ROWS
    show_rows(iter(()), ("id",), as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_a_table_has_aligned_columns_and_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_rows(ROWS, ("id", "count", "error"), as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ID      COUNT  ERROR",
        r"a       3      line\none \x1b[31mred",
        "longer  12",
    ]


def test_rows_are_fetched_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        raise ValueError("storage is gone")

    with pytest.raises(ValueError, match="storage is gone"):
        show_rows(broken(), ("id",), as_json=True)
    assert capsys.readouterr().out == '[{"id":1}\n'


def test_facts_for_people_keep_tracebacks_readable(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"id": "a", "ok": True, "traceback": "one\n  two"}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "id         a",
        "ok         yes",
        "traceback:",
        "    one",
        "      two",
    ]

"""The show-case counts what is there, and its ledger cannot flatter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from examples.stdlib_atlas.ledger import Account, Ledger, Line
from examples.stdlib_atlas.measure import FileFacts, fold, measure_file

SOURCE = """\
import os, sys
from collections import abc
from . import sibling

class A:
    def short(self): return 1

async def longest():
    import os
    return 2
"""


def _written(tmp_path: Path, *lines: Line) -> Ledger:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return ledger


def _line(job: str, *, ended: bool, pid: int = 1, interruptions: int = 0, crashes: int = 0) -> Line:
    return Line(job, pid, ended, interruptions, crashes)


def test_a_file_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    facts = measure_file(str(path))
    assert (facts.lines, facts.classes, facts.functions) == (10, 1, 2)
    assert facts.longest is not None
    assert (facts.longest.name, facts.longest.lines) == ("longest", 3)
    assert facts.imports == ("collections", "os", "sys")


@pytest.mark.parametrize("source", [b"def (", b"# coding: nonsense\n", b"x = '\xff'\n", b"\0"])
def test_a_file_that_does_not_parse_is_a_fact(tmp_path: Path, source: bytes) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(source)
    assert measure_file(str(path)).problem


def test_the_atlas_adds_up() -> None:
    facts = [
        FileFacts("a", lines=3, functions=1, imports=("os",)),
        FileFacts("b", lines=5, functions=2, imports=("os", "sys")),
        FileFacts("c", problem="SyntaxError"),
    ]
    atlas = fold(facts)
    assert (atlas.files, atlas.lines, atlas.functions) == (3, 8, 3)
    assert atlas.imported[0] == (2, "os")
    assert atlas.biggest[0] == (5, "b")
    assert atlas.broken == [("c", "SyntaxError")]


def test_a_job_that_started_and_never_ended_is_lost(tmp_path: Path) -> None:
    ledger = _written(tmp_path, _line("a", ended=False), _line("b", ended=False, pid=2))
    assert ledger.account(["a", "b", "c"]) == Account(3, 3, 0, 0, 0)
    assert ledger.busy() == [2, 1]


def test_a_job_that_ended_twice_ran_twice(tmp_path: Path) -> None:
    ledger = _written(tmp_path, *[_line("a", ended=True)] * 2, _line("b", ended=True))
    assert ledger.account(["a", "b"]) == Account(2, 0, 1, 0, 0)
    assert ledger.ended() == 2


def test_interruptions_and_crashes_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    ledger = _written(
        tmp_path,
        _line("a", ended=False),
        _line("a", ended=False, crashes=1),
        _line("a", ended=True, crashes=1, interruptions=1),
    )
    assert ledger.account(["a"]) == Account(1, 0, 0, 1, 1)


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    ledger = _written(tmp_path)
    line = msgspec.json.encode(_line("a", ended=True)) + b"\n"
    path = tmp_path / "ledger"
    path.write_bytes(line[:9])
    assert ledger.ended() == 0
    path.write_bytes(line)
    assert ledger.ended() == 1

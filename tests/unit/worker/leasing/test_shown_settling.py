"""How many ends wait to be settled: shown on the board, told when it begins and when it is over."""

from __future__ import annotations

import json
from pathlib import Path

from taskqd.ipc import board
from taskqd.ipc.board import Board, size
from taskqd.logs.setup import configure
from taskqd.worker.leasing.shown_settling import ShownSettling


def test_one_line_when_it_begins_and_one_when_it_is_over(tmp_path: Path) -> None:
    file = tmp_path / "log"
    row = Board(memoryview(bytearray(size(1, 1))), 1, 1).row(0)
    shown = ShownSettling(row, configure(role="test", format="json", file=str(file)))
    for count in (0, 2, 5, 5, 1, 0, 0):
        shown.show(count, "no room")
        assert row.behind(board.SETTLING) == count
    begun, over = map(json.loads, file.read_text().splitlines())
    assert (begun["event"], begun["count"], begun["error"]) == ("settling.begun", 2, "no room")
    assert (over["event"], over["most"]) == ("settling.over", 5)


def test_on_the_board_of_an_older_master_nothing_is_posted() -> None:
    whole = size(2, 1)
    memory = bytearray(whole - 32)
    row = Board(memoryview(memory), 2, 1).row(1)
    row.set_behind(board.SETTLING, 3)
    assert row.behind(board.SETTLING) == 0
    assert not any(memory)

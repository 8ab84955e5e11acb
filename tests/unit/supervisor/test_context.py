"""What the parts of the master share."""

from __future__ import annotations

from taskqd.ipc import board
from taskqd.supervisor.context import COUNTERS


def test_the_counters_are_those_of_a_board_row_in_its_order() -> None:
    fields = [getattr(board, name.upper()) for name in COUNTERS]
    assert fields == list(range(board.DONE, board.INTERRUPTED + 1))

"""The board: what one process posts, another reads whole."""

from __future__ import annotations

import mmap
import os
import signal

import pytest

from taskqd.ipc.board import BEAT, DONE, Board, SlotView, size


def _board(rows: int = 2, slots: int = 2) -> Board:
    return Board(memoryview(bytearray(size(rows, slots))), rows, slots)


def test_a_running_job_is_seen_and_an_ended_one_is_not() -> None:
    row = _board().row(1)
    row.begin(1, 7, 100, 200, "job-1", "shop.mail")
    assert row.busy() == [SlotView(1, 7, 100, 200, "job-1", "shop.mail")]
    row.end(1)
    assert row.busy() == []


def test_rows_do_not_touch_each_other() -> None:
    board = _board()
    for number in (0, 1):
        board.row(number).set(DONE, 10 + number)
        board.row(number).begin(1, 20 + number, 0, 0, "x" * 99, "y" * 99)
    board.row(0).clear()
    assert (board.row(0).get(DONE), board.row(0).busy()) == (0, [])
    assert board.row(1).get(DONE) == 11
    assert board.row(1).slot(1) == SlotView(1, 21, 0, 0, "x" * 40, "y" * 64)


def test_a_row_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match=r"rows 0\.\.1, not 2"):
        _board().row(2)


def test_no_reader_ever_sees_a_word_or_a_slot_half_written() -> None:
    """Another process writes all the time; a clearing write shows within thousands of reads."""
    memory = mmap.mmap(-1, size(1, 1))
    row = Board(memoryview(memory), 1, 1).row(0)
    row.set(BEAT, 1 << 60)
    writer = os.fork()
    if not writer:
        os._exit(_write_forever(row))
    try:
        for _ in range(100_000):
            assert row.get(BEAT) >= 1 << 60
            view = row.slot(0)
            assert view is None or view.job_id == f"job-{view.token}"
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def _write_forever(row) -> int:
    signal.alarm(60)
    token = 1
    while True:
        row.set(BEAT, (1 << 60) + token)
        row.begin(0, token, 0, 0, f"job-{token}", "task")
        row.end(0)
        token += 1


def test_what_an_idle_slot_ran_last_can_be_told() -> None:
    row = _board().row(1)
    assert row.ended() == []
    row.begin(1, 7, 100, 200, "job-1", "shop.mail")
    assert row.ended() == []
    row.end(1)
    assert row.ended() == [SlotView(1, 7, 100, 200, "job-1", "shop.mail")]

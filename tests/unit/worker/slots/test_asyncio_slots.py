"""The event loop of the asyncio kind."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest

from taskqd.ipc import board
from taskqd.ipc.board import Board
from taskqd.worker.slots.asyncio_slots import AsyncioSlots
from taskqd.worker.slots.stop_state import StopState
from tests.support.rigs.worker_rig import Jobs


@pytest.mark.parametrize("installed", [True, False])
def test_the_fast_event_loop_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    stand_in = SimpleNamespace(new_event_loop=asyncio.new_event_loop) if installed else None
    monkeypatch.setitem(sys.modules, "uvloop", stand_in)
    memory = Board(memoryview(bytearray(board.size(1, 2))), 1, 2)
    slots = AsyncioSlots(memory.row(0), 2, StopState("n.1"), Jobs())
    assert slots.loop == ("uvloop" if installed else "asyncio")

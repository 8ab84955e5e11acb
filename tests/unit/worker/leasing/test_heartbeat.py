"""What a worker shows of itself at each turn of its loop, and what only once a second."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from taskqd.clock import monotonic_ns
from taskqd.ipc import board
from taskqd.ipc.board import Board, size
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Ready, decode_from_child, decode_to_child
from taskqd.logs.setup import configure
from taskqd.worker.host.setup import Title
from taskqd.worker.leasing.context import WorkerContext
from taskqd.worker.leasing.heartbeat import BEAT_S, Heartbeat
from taskqd.worker.leasing.storage_client import StorageClient
from taskqd.worker.slots.base import Slots
from taskqd.worker.slots.stop_state import StopState

WORKERS = 4


class Shown(Title):
    """Remembers what `ps` would show."""

    states: tuple[str, ...] = ()

    def show(self, state: str) -> None:
        self.states += (state,)


class BusySlots:
    turns = 0
    running = "shop.thumbnail"

    def turn(self) -> None:
        self.turns += 1

    def task(self) -> str:
        return self.running


class Sharing:
    share = 0


@pytest.fixture
def place() -> Iterator[tuple[WorkerContext, socket.socket]]:
    """A worker on row 0 of a board, and its master's end of the channel."""
    ours, masters = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rows = Board(memoryview(bytearray(size(WORKERS + 1, 1))), WORKERS + 1, 1)
    channel = Channel(ours, decode_to_child)
    log = configure(role="test", level="critical")
    stop_state = StopState("n.1")
    reader, writer = os.pipe()
    with masters:
        yield (
            WorkerContext(
                *("n.1", "n", rows.row(0), rows, WORKERS, channel),
                *(reader, stop_state, Shown("worker 0"), log),
            ),
            masters,
        )
    channel.close()
    os.close(reader)
    os.close(writer)


def test_the_beat_is_posted_at_each_turn_and_the_costly_part_once_a_second(
    place: tuple[WorkerContext, socket.socket],
) -> None:
    context, _masters = place
    slots, client, heartbeat = BusySlots(), Sharing(), Heartbeat(context)
    for now_s in (0.0, BEAT_S / 2, BEAT_S * 0.9):
        before_ns = monotonic_ns()
        heartbeat.beat(now_s, cast("Slots", slots), cast("StorageClient", client))
        assert context.row.get(board.BEAT) >= before_ns
        assert slots.turns == 1
    slots.running = ""
    heartbeat.beat(BEAT_S, cast("Slots", slots), cast("StorageClient", client))
    assert slots.turns == 2
    assert cast("Shown", context.title).states == ("", "[busy] shop.thumbnail", "[idle]")


@pytest.mark.parametrize("serving", [0, 1, 3])
def test_a_worker_s_share_of_a_short_queue_follows_how_many_serve(
    place: tuple[WorkerContext, socket.socket], serving: int
) -> None:
    context, _masters = place
    for number in range(serving):
        context.board.row(number).set(board.READY, 1)
    context.board.row(WORKERS).set(board.READY, 1)  # the scheduler's, which leases nothing
    client = Sharing()
    Heartbeat(context).beat(0.0, cast("Slots", BusySlots()), cast("StorageClient", client))
    assert client.share == 2 * max(1, serving)


def test_what_did_not_fit_into_the_channel_goes_out_with_the_beat(
    place: tuple[WorkerContext, socket.socket],
) -> None:
    context, masters = place
    sent = 0
    while not context.channel.waits:
        context.channel.send(Ready(f"{sent}"))
        sent += 1
    for number in range(sent - 1):
        assert decode_from_child(masters.recv(10_000)) == Ready(f"{number}")
    Heartbeat(context).beat(0.0, cast("Slots", BusySlots()), cast("StorageClient", Sharing()))
    masters.settimeout(20)
    assert decode_from_child(masters.recv(10_000)) == Ready(f"{sent - 1}")

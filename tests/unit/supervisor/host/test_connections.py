"""What becomes of descriptors that were to be sent to a process that is gone."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator

import pytest

from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Message, Spawn, decode_from_zygote
from taskqd.supervisor.host.connections import Connections

SPAWN = Spawn(role="worker", number=0, worker_id="n.1")


@pytest.fixture
def connections() -> Iterator[Connections]:
    with selectors.DefaultSelector() as selector:
        made = Connections(selector)
        ours: Channel[Message]
        ours, theirs = Channel.pair(decode_from_zygote)
        made.add("zygote", ours)
        theirs.close()
        yield made
        made.drop("zygote")


def end_of_a_pipe() -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    return reader, writer


def test_a_child_whose_zygote_had_hung_up_was_waited_for_without_end(
    connections: Connections,
) -> None:
    """Its end of the line was kept open by the message that nobody could send."""
    connections.hang_up("zygote")
    reader, writer = end_of_a_pipe()
    connections.tell("zygote", SPAWN, [writer])
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_a_zygote_that_dies_has_not_taken_is_closed_with_it(connections: Connections) -> None:
    reader, writer = end_of_a_pipe()
    connections.tell("zygote", SPAWN, [writer])
    assert [ready.key for ready in connections.take_ready()] == ["zygote"]
    connections.drop("zygote")
    assert os.read(reader, 1) == b""
    os.close(reader)

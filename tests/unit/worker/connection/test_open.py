"""What a child hears while it waits for its storage."""

from __future__ import annotations

import os
import socket
import time

import pytest

from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Drain, Quiet, ToChild, decode_to_child, encode
from taskqd.worker.connection.open import AskedToEnd, BootWait


@pytest.fixture
def pair() -> tuple[Channel[ToChild], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(20)
    return Channel(ours, decode_to_child), theirs


def test_what_comes_during_the_boot_is_kept_and_a_drain_ends_it(
    pair: tuple[Channel[ToChild], socket.socket],
) -> None:
    channel, master = pair
    reader, _writer = os.pipe()
    antechamber = BootWait(channel, reader)
    master.send(encode(Quiet()))
    antechamber.wait(0.05)
    assert channel.receive().messages == [Quiet()]
    master.send(encode(Drain(5)))
    began = time.monotonic()
    with pytest.raises(AskedToEnd):
        antechamber.wait(20)
    assert time.monotonic() - began < 10

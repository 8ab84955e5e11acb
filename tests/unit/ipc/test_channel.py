"""The channel between the master and a child: real socket pairs, both ends in one process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from taskqd.ipc import messages
from taskqd.ipc.channel import Channel, receive_with_fds, say
from taskqd.ipc.messages import (
    Booted,
    FromChild,
    Quiet,
    Resume,
    ToChild,
    decode_from_child,
    decode_to_child,
    encode,
)

MasterEnd = tuple[Channel[FromChild], socket.socket]
ChildEnd = tuple[Channel[ToChild], socket.socket]


@pytest.fixture
def masters() -> Iterator[MasterEnd]:
    """The master's end, and the socket of a child."""
    channel: Channel[FromChild]
    channel, theirs = Channel.pair(decode_from_child)
    theirs.settimeout(20)
    with theirs:
        yield channel, theirs
    channel.close()


@pytest.fixture
def childs() -> Iterator[ChildEnd]:
    """A child's end, and the socket of the master."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(20)
    channel = Channel(ours, decode_to_child)
    with theirs:
        yield channel, theirs
    channel.close()


def test_messages_arrive_whole_and_in_order(masters: MasterEnd) -> None:
    channel, theirs = masters
    for pid in range(5):
        theirs.send(encode(Booted(pid)))
    assert channel.receive().messages == [Booted(pid) for pid in range(5)]
    assert channel.open
    theirs.close()
    assert channel.receive().messages == []
    assert (channel.open, channel.hung_up) == (False, True)


def test_nonsense_is_told_apart_from_silence_and_what_follows_is_not_lost(
    masters: MasterEnd,
) -> None:
    channel, theirs = masters
    for packet in (encode(Booted(1)), b"\xff nonsense", b'{"m":"of another release"}'):
        theirs.send(packet)
    theirs.send(encode(Booted(2)))
    heard = channel.receive()
    assert heard.messages == [Booted(1)]
    assert "nonsense" in heard.garbled
    assert "of another release" in channel.receive().garbled
    assert channel.receive() == ([Booted(2)], "")
    assert channel.open


def test_a_process_that_trusts_the_other_end_gets_nonsense_as_an_error(childs: ChildEnd) -> None:
    channel, theirs = childs
    theirs.send(b"nonsense")
    with pytest.raises(ValueError, match="no message"):
        channel.receive_all()


def test_a_child_that_does_not_read_never_blocks_the_master(masters: MasterEnd) -> None:
    channel, theirs = masters
    order = messages.RecoverWorker("w", tuple(range(2000)), "orphaned")
    for _ in range(100):
        channel.send(order)
    assert channel.waits
    for _ in range(100):
        assert decode_to_child(theirs.recv(messages.PACKET_BYTES_MAX)) == order
        channel.flush()
    assert not channel.waits


def test_a_child_that_never_reads_is_taken_for_dead(masters: MasterEnd) -> None:
    channel, _theirs = masters
    for _ in range(3000):
        channel.send(Quiet())
    assert not channel.open
    assert not channel.waits
    assert not channel.hung_up


def test_what_a_child_said_before_the_master_gave_it_up_is_still_heard(masters: MasterEnd) -> None:
    channel, theirs = masters
    theirs.send(encode(Booted(7)))
    for _ in range(3000):
        channel.send(Quiet())
    assert channel.receive().messages == [Booted(7)]


def test_what_does_not_fit_yet_goes_out_later_and_in_order(childs: ChildEnd) -> None:
    """A master that does not read blocks no child, and the child loses nothing."""
    channel, master = childs
    for number in range(5000):
        channel.send(Booted(number))
    assert channel.waits
    for number in range(5000):
        channel.flush()
        assert master.recv(1000) == encode(Booted(number))
    assert channel.open


def test_a_master_that_is_gone_is_noticed_when_sending_and_when_receiving(
    childs: ChildEnd,
) -> None:
    channel, master = childs
    master.send(encode(Quiet()))
    master.close()
    channel.send(Booted(1))
    assert not channel.open
    assert channel.receive().messages == [Quiet()]
    assert channel.receive().messages == []
    assert channel.hung_up


def test_what_was_held_comes_first_at_the_next_receive(childs: ChildEnd) -> None:
    channel, master = childs
    channel.hold([Quiet()])
    master.send(encode(Resume()))
    assert channel.receive().messages == [Quiet(), Resume()]


def test_descriptors_travel_with_their_message_and_are_closed_here(masters: MasterEnd) -> None:
    channel, theirs = masters
    reader, writer = os.pipe()
    spawn = messages.Spawn("worker", 0, "n.1")
    channel.send(spawn, [writer])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)
    packet, [passed] = receive_with_fds(theirs)
    assert messages.decode_to_zygote(packet) == spawn
    assert not os.get_inheritable(passed)
    os.write(passed, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(passed)
    os.close(reader)


def test_descriptors_that_were_never_sent_are_closed_with_the_channel(masters: MasterEnd) -> None:
    channel, _theirs = masters
    reader, writer = os.pipe()
    while not channel.waits:
        channel.send(messages.RecoverWorker("w", tuple(range(2000)), "orphaned"))
    channel.send(messages.Spawn("worker", 0, "n.1"), [writer])
    channel.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_who_waits_for_a_packet_of_a_process_that_is_gone_gets_none(masters: MasterEnd) -> None:
    channel, theirs = masters
    channel.close()
    assert receive_with_fds(theirs) == (b"", [])


def test_one_word_to_a_master_that_is_gone_is_printed(
    masters: MasterEnd, capsys: pytest.CaptureFixture[str]
) -> None:
    channel, theirs = masters
    say(theirs, Booted(3))
    assert channel.receive().messages == [Booted(3)]
    channel.close()
    say(theirs, Booted(4))
    assert "Booted not sent" in capsys.readouterr().err

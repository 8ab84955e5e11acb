"""One end of a control channel: whole messages over a SOCK_SEQPACKET pair, and never a wait.

The pair keeps packets whole and tells of the other process's death by end of file.  The master holds
one end of each, its children the others; descriptors travel with the packets.

What gevent replaces is bound here at import, because a worker of greenlets calls gevent later, and its
channel must not become one that lets greenlets run.
"""

from __future__ import annotations

import array
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from os import close
from socket import (
    AF_UNIX,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    recv_fds,
    socket,
    socketpair,
)
from typing import Generic, NamedTuple, TypeVar

import msgspec

from taskqd.ipc.messages import PACKET_BYTES_MAX, Message, encode

M = TypeVar("M", bound=Message)

OUTBOX_MAX = 1000
"""Messages that the master keeps for a child that does not read; more, and it is taken for dead."""
TURN_MAX = 100
"""Messages taken at a time, so that one process cannot keep the other busy."""
FDS_MAX = 4


class Heard(NamedTuple, Generic[M]):
    """What one `receive` has taken in."""

    messages: list[M]
    garbled: str = ""
    """What came that is no message, "" if all is well; what came after it is still to be received."""


class Channel(Generic[M]):
    """One end of a pair; owns its socket and the descriptors that wait to be sent.

    One thread uses it, so it has no lock.
    """

    def __init__(
        self, sock: socket, decode: Callable[[bytes], M], outbox_max: int | None = None
    ) -> None:
        """`outbox_max`: None for a child, whose master may sleep for long and is not dead then."""
        sock.setblocking(False)
        self._socket = sock
        self._decode = decode
        self._outbox_max = outbox_max
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._held: list[M] = []
        self.open = True
        """False once the other end is gone, or reads no more."""
        self.hung_up = False
        """True once the end of what the other end has sent was read."""

    @classmethod
    def pair(cls, decode: Callable[[bytes], M]) -> tuple[Channel[M], socket]:
        """Return the master's end, and the socket that becomes the child's."""
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        return cls(ours, decode, OUTBOX_MAX), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waits(self) -> bool:
        """Something waits for the other end to read."""
        return bool(self._outbox) and self.open

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or keep until `flush`; `fds` are owned from here on and closed once sent."""
        self._outbox.append((encode(message), tuple(fds)))
        if self._outbox_max is not None and len(self._outbox) > self._outbox_max:
            self.open = False
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it."""
        while self.waits:
            data, fds = self._outbox[0]
            try:
                transmit(self._socket, data, fds)
            except BlockingIOError:
                return
            except OSError:
                self.open = False
                return
            self._drop_first()

    def _drop_first(self) -> None:
        for fd in self._outbox.popleft()[1]:
            close(fd)

    def receive(self) -> Heard[M]:
        """Return what has come; `open` and `hung_up` say afterwards whether that was the last."""
        messages, self._held = self._held, []
        for _ in range(TURN_MAX):
            try:
                packet = self._socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self.open, self.hung_up = False, True
                break
            try:
                messages.append(self._decode(packet))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                return Heard(messages, f"{error}: {packet[:80]!r}")
        return Heard(messages)

    def receive_all(self) -> list[M]:
        """Return what has come, for a process that trusts the other end.

        Raises ValueError for what is no message.
        """
        heard = self.receive()
        if heard.garbled:
            raise ValueError(f"the channel brought what is no message: {heard.garbled}")
        return heard.messages

    def hold(self, messages: Sequence[M]) -> None:
        """Keep messages for the next `receive`, whose business they are."""
        self._held += messages

    def close(self) -> None:
        """Close the socket, and the descriptors that were not sent."""
        while self._outbox:
            self._drop_first()
        self.open = False
        self._socket.close()


def transmit(sock: socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet with descriptors.  Raises OSError; no SIGPIPE."""
    rights = [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights, MSG_NOSIGNAL)


def say(sock: socket, message: Message) -> None:
    """Send one message of a process whose only business is to say it, waiting for room.

    Where that fails the master is gone; the end of file on the channel is what follows.
    """
    try:
        transmit(sock, encode(message))
    except OSError as error:
        print(f"taskqd: {type(message).__name__} not sent: {error}", file=sys.stderr)  # noqa: T201


def receive_with_fds(sock: socket) -> tuple[bytes, list[int]]:
    """Wait for one packet and the descriptors it carries; (b"", []) at the end of file."""
    try:
        packet, fds, _flags, _address = recv_fds(sock, PACKET_BYTES_MAX, FDS_MAX)
    except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
        return b"", []
    for fd in fds:
        os.set_inheritable(fd, False)
    return packet, fds

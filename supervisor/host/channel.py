"""The master's end of a channel to one child: whole messages, never blocking.

A SOCK_SEQPACKET pair keeps packets whole and tells of the other end's death by end of file.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from taskqd.ipc.messages import PACKET_BYTES_MAX, Message, encode

M = TypeVar("M", bound=Message)

OUTBOX_MAX = 1000
"""Messages kept for a child that does not read; more, and it is taken for dead."""
TURN_MAX = 100
"""Messages taken at a time, so that one child cannot keep the master busy."""


class Heard(NamedTuple, Generic[M]):
    messages: list[M]
    hung_up: bool
    garbled: str
    """What came that is no message, "" if all is well."""


class Channel(Generic[M]):
    """One end; owns its socket and the descriptors that wait to be sent."""

    def __init__(self, sock: socket.socket, decode: Callable[[bytes], M]) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._decode = decode
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self.broken = False

    @classmethod
    def pair(cls, decode: Callable[[bytes], M]) -> tuple[Channel[M], socket.socket]:
        """Return the master's end and the child's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, decode), theirs

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def waits(self) -> bool:
        """Something waits for the other end to read."""
        return bool(self._outbox) and not self.broken

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or keep until `flush`; `fds` are owned from here on and closed once sent."""
        self._outbox.append((encode(message), tuple(fds)))
        if len(self._outbox) > OUTBOX_MAX:
            self.broken = True
        self.flush()

    def flush(self) -> None:
        while self.waits:
            data, fds = self._outbox[0]
            try:
                self._transmit(data, fds)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
                return
            self._drop_first()

    def _transmit(self, data: bytes, fds: tuple[int, ...]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)

    def _drop_first(self) -> None:
        for fd in self._outbox.popleft()[1]:
            os.close(fd)

    def receive(self) -> Heard[M]:
        messages: list[M] = []
        for _ in range(TURN_MAX):
            try:
                packet = self.socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                return Heard(messages, False, "")
            except OSError:
                return Heard(messages, True, "")
            if not packet:
                return Heard(messages, True, "")
            try:
                messages.append(self._decode(packet))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                return Heard(messages, False, f"{error}: {packet[:80]!r}")
        return Heard(messages, False, "")

    def close(self) -> None:
        while self._outbox:
            self._drop_first()
        self.broken = True
        self.socket.close()

"""One end of the SEQPACKET pair between the master and one of its processes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from socket import recv_fds, socket

from taskqd.ipc.messages import PACKET_BYTES_MAX, Message, encode

_GONE = (BrokenPipeError, ConnectionResetError, ConnectionRefusedError)
_FDS_MAX = 4


class Channel:
    """Sends without ever blocking; what the socket does not take yet goes out with the next call.

    law: used by one thread.
    """

    def __init__(self, sock: socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._outbox: deque[bytes] = deque()
        self._held: list[bytes] = []
        self.open = True
        """False once the other end is gone."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        self._outbox.append(encode(message))
        self.flush()

    def flush(self) -> None:
        try:
            while self._outbox and self.open:
                self._socket.send(self._outbox[0])
                self._outbox.popleft()
        except BlockingIOError:
            return
        except _GONE:
            self.open = False

    def receive(self) -> list[bytes]:
        """Return the packets that have come; `open` is False afterwards where the end was read."""
        packets, self._held = self._held, []
        while self.open:
            try:
                packet = self._socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except _GONE:
                packet = b""
            if not packet:
                self.open = False
                break
            packets.append(packet)
        return packets

    def hold(self, packets: Sequence[bytes]) -> None:
        """Keep packets for the next `receive`, whose business they are."""
        self._held += packets

    def close(self) -> None:
        self._socket.close()


def receive_with_fds(sock: socket) -> tuple[bytes, list[int]]:
    """Wait for one packet and the descriptors it carries; (b"", []) at the end of file."""
    try:
        packet, fds, _flags, _address = recv_fds(sock, PACKET_BYTES_MAX, _FDS_MAX)
    except _GONE:
        return b"", []
    for fd in fds:
        os.set_inheritable(fd, False)
    return packet, fds

"""A proxy that loses replies: the server has acted, the client never hears of it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable


class LossyProxy:
    """Forwards a unix socket to another one.

    After `lose_next_reply()` the next bytes from the server are thrown away and the connection is
    cut.  While `swallow` holds for a process, nothing that it or the server says arrives, on old and
    new connections, and none is cut.  Close it, or use it as a context manager.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.path = os.path.join(tempfile.mkdtemp(prefix="tq-proxy-"), "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._lose = threading.Event()
        self.lost = threading.Event()
        """Set once a reply was lost."""
        self.swallow: Callable[[int], bool] = lambda _pid: False
        """Says by the client's pid whose words are lost."""
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def lose_next_reply(self) -> None:
        self.lost.clear()
        self._lose.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                pid = _peer(client)
                for source, sink, lossy in ((client, server, False), (server, client, True)):
                    args = (source, sink, lossy, pid)
                    threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, lossy: bool, pid: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.swallow(pid):
                    continue
                if lossy and self._lose.is_set():
                    self._lose.clear()
                    self.lost.set()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> LossyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for end in self._sockets:
            end.close()
        os.unlink(self.path)
        os.rmdir(os.path.dirname(self.path))


def _peer(client: socket.socket) -> int:
    """Return the pid of who has connected."""
    packed = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", packed)[0]
    return pid

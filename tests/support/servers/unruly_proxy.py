"""A proxy of a unix socket, in a thread, that can hold back all bytes or cut replies in half."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import tempfile
import threading

CHUNK_BYTES = 1 << 16
LOOK_S = 0.05


class UnrulyProxy:
    """Passes everything until told otherwise; use as a context manager."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.path = os.path.join(tempfile.mkdtemp(prefix="tq-proxy-"), "s")
        self._poll = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(512)
        self._listener.setblocking(False)
        self._poll.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._servers: set[socket.socket] = set()
        self.stalled = threading.Event()
        """While it is set, no byte passes."""
        self.halves = 0
        """So many of the next replies are cut in half, and their connections with them."""
        self.halved = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> UnrulyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        for end in [self._listener, *self._peers]:
            end.close()
        self._poll.close()
        os.unlink(self.path)
        os.rmdir(os.path.dirname(self.path))

    def _run(self) -> None:
        while not self._over:
            if self.stalled.is_set():
                threading.Event().wait(LOOK_S)
                continue
            for key, _ in self._poll.select(LOOK_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                return
            self._servers.add(server)
            for one, other in ((client, server), (server, client)):
                self._peers[one] = other
                self._poll.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(CHUNK_BYTES)
        except OSError:
            data = b""
        if data and self.halves and source in self._servers and len(data) > 1:
            self.halves -= 1
            self.halved += 1
            with contextlib.suppress(OSError):
                self._peers[source].sendall(data[: len(data) // 2])
            data = b""
        if data:
            with contextlib.suppress(OSError):
                self._peers[source].sendall(data)
                return
        self._cut(source)

    def _cut(self, source: socket.socket) -> None:
        other = self._peers[source]
        for end in (source, other):
            self._poll.unregister(end)
            del self._peers[end]
            self._servers.discard(end)
            end.close()

"""A proxy of a unix socket, in a thread, that can hold back bytes, refuse, or cut replies in half."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import tempfile
import threading

from tests.support.waiting import wait_until

CHUNK_BYTES = 1 << 16
LOOK_S = 0.05


class UnrulyProxy:
    """Passes everything until told otherwise; use as a context manager."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.path = os.path.join(tempfile.mkdtemp(prefix="tq-proxy-"), "s")
        self._poll = selectors.DefaultSelector()
        self._listener = self._listening()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._servers: set[socket.socket] = set()
        self.stalled = threading.Event()
        """While it is set, no byte passes."""
        self.mute = threading.Event()
        """While it is set, no byte of the server's passes."""
        self._refuses = threading.Event()
        self._is_closed = False
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

    def refuse(self) -> None:
        """Cut all connections and refuse new ones, until `accept`; returns when it is so."""
        self._turn(refuses=True)

    def accept(self) -> None:
        """Take connections again; returns when it is so."""
        self._turn(refuses=False)

    def _turn(self, *, refuses: bool) -> None:
        (self._refuses.set if refuses else self._refuses.clear)()
        wait_until(lambda: self._is_closed is refuses, "the proxy's turn")

    def _listening(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(512)
        listener.setblocking(False)
        self._poll.register(listener, selectors.EVENT_READ)
        return listener

    def _run(self) -> None:
        while not self._over:
            refuses = self._refuses.is_set()
            if refuses is not self._is_closed:
                (self._close_all if refuses else self._open_again)()
                self._is_closed = refuses
            if self.stalled.is_set() or refuses:
                threading.Event().wait(LOOK_S)
                continue
            self._pass_all_on()

    def _close_all(self) -> None:
        self._poll.unregister(self._listener)
        self._listener.close()  # Its path stays: who connects is refused.
        for source in list(self._peers):
            if source in self._peers:
                self._cut(source)

    def _open_again(self) -> None:
        os.unlink(self.path)
        self._listener = self._listening()

    def _pass_all_on(self) -> None:
        held_back = False
        for key, _ in self._poll.select(LOOK_S):
            source = key.fileobj
            if source is self._listener:
                self._accept()
            elif isinstance(source, socket.socket) and source in self._peers:
                if self.mute.is_set() and source in self._servers:
                    held_back = True
                else:
                    self._pass_on(source)
        if held_back:
            threading.Event().wait(LOOK_S)

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

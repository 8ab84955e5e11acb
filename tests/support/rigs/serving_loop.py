"""A loop that serves the sockets of the master in a thread, as the master would turn it."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskqd.clock import monotonic_s
from taskqd.supervisor.endpoints.listener import EndpointListener


class ServingLoop:
    """A selector in a thread; the errors of conversations are kept."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.over = False
        self.listeners: list[EndpointListener] = []
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._run)

    def serve(self, sock: socket.socket, begin: Callable[[socket.socket], Any]) -> EndpointListener:
        self.listeners.append(
            EndpointListener(self.selector, sock, begin, monotonic_s, self.errors.append)
        )
        self._thread.start()
        return self.listeners[-1]

    def _run(self) -> None:
        while not self.over:
            for key, _ in self.selector.select(0.02):
                key.data()
            for served in self.listeners:
                served.drop_slow()

    def close(self) -> None:
        self.over = True
        self._thread.join()
        for served in self.listeners:
            served.close()
        self.selector.close()


@contextmanager
def serving_loop() -> Iterator[ServingLoop]:
    """Give a loop, and end it with its listeners."""
    loop = ServingLoop()
    yield loop
    loop.close()


def echo(request: dict[str, Any]) -> dict[str, Any]:
    """Answer an admin request by telling it back."""
    return {"ok": True, "pid": 4711, "asked": request}

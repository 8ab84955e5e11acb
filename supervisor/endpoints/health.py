"""The health endpoint, HTTP in the master's loop: /livez /readyz /startupz /metrics."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from errno import EADDRINUSE
from typing import Any, NamedTuple

import h11

from taskqd.errors import ConfigError

from .listener import Reply

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class HttpPage(NamedTuple):
    status: int
    body: str
    content_type: str = _TEXT


HttpPages = Mapping[str, Callable[[], HttpPage]]


def probe_page(answer: dict[str, Any]) -> HttpPage:
    """Return the page of a probe's answer: 200 or 503, with its reasons as JSON."""
    return HttpPage(200 if answer["ok"] else 503, json.dumps(answer) + "\n", "application/json")


def metrics_page(text: str) -> HttpPage:
    return HttpPage(200, text, _METRICS)


def listen_near(bind: str) -> socket.socket:
    """Listen on HOST:PORT or, where another process does, on a free port.  Raises ConfigError."""
    try:
        return listen(bind)
    except ConfigError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != EADDRINUSE:
            raise
        return listen(f"{bind.rpartition(':')[0]}:0")


def address_of(sock: socket.socket) -> str:
    """Return the HOST:PORT of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(bind: str) -> socket.socket:
    """Listen on HOST:PORT.  Raises ConfigError."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, int(port)))
    except (OSError, ValueError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"health.bind: cannot listen on {bind}: {error}; choose another address, or off",
        ) from error
    sock.listen(64)
    return sock


class HttpConversation:
    """Answers the HTTP requests of one caller, whose connection may be kept alive."""

    def __init__(self, pages: HttpPages) -> None:
        self._pages = pages
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)

    def receive(self, data: bytes) -> Reply:
        replies: list[bytes] = []
        try:
            self._http.receive_data(data)
            while (event := self._next()) is not None:
                if isinstance(event, h11.Request):
                    replies.append(self._reply(event))
        except h11.RemoteProtocolError as error:
            return Reply(b"".join([*replies, self._refuse(error)]), close=True)
        closed = self._http.our_state in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)
        return Reply(b"".join(replies), close=closed or not data)

    def _next(self) -> h11.Event | None:
        """Return the next event of h11, also that of a pipelined request; None: it needs more data."""
        event = self._http.next_event()
        if event is h11.PAUSED and self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
            event = self._http.next_event()
        if isinstance(event, h11.ConnectionClosed) or not isinstance(event, h11.Event):
            return None
        return event

    def _reply(self, request: h11.Request) -> bytes:
        path = request.target.partition(b"?")[0].decode(errors="replace")
        if request.method not in (b"GET", b"HEAD"):
            page = HttpPage(405, "only GET and HEAD\n")
        elif path in self._pages:
            page = self._pages[path]()
        else:
            page = HttpPage(404, f"there are {', '.join(self._pages)}\n")
        return self._send(page, head=request.method == b"HEAD")

    def _refuse(self, error: h11.RemoteProtocolError) -> bytes:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        return self._send(HttpPage(error.error_status_hint, f"{error}\n"))

    def _send(self, page: HttpPage, *, head: bool = False) -> bytes:
        body = page.body.encode()
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        parts = (
            h11.Response(status_code=page.status, headers=headers),
            h11.Data(data=b"" if head else body),
            h11.EndOfMessage(),
        )
        return b"".join(self._http.send(part) or b"" for part in parts)

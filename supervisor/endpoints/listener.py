"""Accepts callers in the master's loop and serves their requests, within bounds of size, time and
number."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

CALLERS_MAX = 32
CALL_S = 5.0
"""Time that a caller has; one that is not done by then is dropped."""
REPLY_BYTES_MAX = 4 * 1024 * 1024


class Reply(NamedTuple):
    data: bytes
    close: bool
    """Whether to hang up once `data` is sent."""


class Conversation(Protocol):
    def receive(self, data: bytes) -> Reply:
        """Take in the caller's data (b"" at end of file) and return the reply."""
        ...


@dataclass(slots=True, eq=False)
class _Caller:
    sock: socket.socket
    conversation: Conversation
    until_s: float
    out: bytearray
    closing: bool = False


class EndpointListener:
    """Accepts callers on `sock` and holds one conversation with each; owns all these sockets."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        begin: Callable[[socket.socket], Conversation | None],
        clock: Callable[[], float],
        on_error: Callable[[Exception], None],
    ) -> None:
        """`begin` returns None for a caller who may not ask.  What a conversation raises costs its
        caller the connection, and `on_error` is told."""
        self._selector = selector
        self._sock = sock
        self._begin = begin
        self._clock = clock
        self._on_error = on_error
        self._callers: list[_Caller] = []
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self._accept)

    @property
    def busy(self) -> bool:
        return bool(self._callers)

    def drop_slow(self) -> None:
        now_s = self._clock()
        for caller in [c for c in self._callers if now_s > c.until_s]:
            self._hang_up(caller)

    def close(self) -> None:
        for caller in list(self._callers):
            self._hang_up(caller)
        self._selector.unregister(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            # The caller went away, or no descriptor is free now; the loop goes on.
            return
        conversation = self._begin(sock)
        if conversation is None:
            sock.close()
            return
        if len(self._callers) >= CALLERS_MAX:
            self._make_room()
        sock.setblocking(False)
        caller = _Caller(sock, conversation, self._clock() + CALL_S, bytearray())
        self._callers.append(caller)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._turn(caller))

    def _make_room(self) -> None:
        """Let the oldest caller go, best one that has nothing to get: who comes may be a probe, and is quick.

        Otherwise a few that are slow would close the address to all others.
        """
        idle = (caller for caller in self._callers if not caller.out)
        self._hang_up(next(idle, self._callers[0]))

    def _turn(self, caller: _Caller) -> None:
        if caller not in self._callers:
            return  # It was let go since the selector saw it.
        try:
            if not caller.closing:
                self._read(caller)
            self._write(caller)
        except BlockingIOError:
            self._watch(caller)
        except OSError:
            self._hang_up(caller)
        except Exception as error:
            self._on_error(error)
            self._hang_up(caller)

    def _read(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(16384)
        except BlockingIOError:
            return
        reply = caller.conversation.receive(data)
        caller.out += reply.data
        caller.closing = reply.close or not data or len(caller.out) > REPLY_BYTES_MAX

    def _write(self, caller: _Caller) -> None:
        while caller.out:
            del caller.out[: caller.sock.send(caller.out)]
        if caller.closing:
            self._hang_up(caller)
        else:
            self._watch(caller)

    def _watch(self, caller: _Caller) -> None:
        events = selectors.EVENT_WRITE if caller.out else selectors.EVENT_READ
        self._selector.modify(caller.sock, events, lambda: self._turn(caller))

    def _hang_up(self, caller: _Caller) -> None:
        self._callers.remove(caller)
        self._selector.unregister(caller.sock)
        caller.sock.close()

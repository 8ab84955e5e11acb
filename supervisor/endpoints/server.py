"""The sockets of the master on which outsiders ask about its health and tell it what to do."""

from __future__ import annotations

import os
import selectors
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress

from taskqd.logs import events
from taskqd.supervisor.context import MasterContext

from . import admin, health, metrics, status
from .listener import Conversation, EndpointListener


class Endpoints:
    """Owns the listeners of the admin socket and of health; the loop calls `look` once a turn."""

    def __init__(
        self,
        context: MasterContext,
        selector: selectors.BaseSelector,
        answer: admin.Handler,
        *,
        may_move: bool,
    ) -> None:
        """`may_move`: the address of health is a default, so a free port may replace one in use."""
        self._context = context
        self._selector = selector
        self._answer = answer
        self._may_move = may_move
        self._listeners: list[EndpointListener] = []

    def open_health(self) -> None:
        """Open the health endpoint, if one is configured.  Raises ConfigError."""
        context, bind = self._context, self._context.settings.health.bind
        if not bind:
            return
        sock = health.listen_near(bind) if self._may_move else health.listen(bind)
        context.health_address = health.address_of(sock)
        if context.health_address != bind:
            context.log.emit(events.HEALTH_MOVED, wanted=bind, address=context.health_address)
        self._serve(sock, self._http())

    def open_admin(self) -> None:
        """Open the admin socket, once.  Raises ConfigError."""
        context = self._context
        if context.admin_path:
            return
        path = admin.choose_path(context.settings.admin.socket, context.instance)
        sock = admin.listen(path)
        context.admin_path = path
        self._serve(sock, admin.converse(self._answer))

    def look(self) -> None:
        for listener in self._listeners:
            listener.drop_slow()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self.unlink()

    def unlink(self) -> None:
        if self._context.admin_path:
            with suppress(FileNotFoundError):
                os.unlink(self._context.admin_path)

    def _http(self) -> Callable[[socket.socket], health.HttpConversation]:
        context = self._context
        pages: health.HttpPages = {
            "/livez": lambda: health.probe_page(status.live(context)),
            "/readyz": lambda: health.probe_page(status.ready(context)),
            "/startupz": lambda: health.probe_page(status.startup(context)),
            "/metrics": lambda: health.metrics_page(metrics.text(context)),
        }
        return lambda _sock: health.HttpConversation(pages)

    def _serve(
        self,
        sock: socket.socket,
        begin: Callable[[socket.socket], Conversation | None],
    ) -> None:
        listener = EndpointListener(self._selector, sock, begin, self._context.clock, self._report)
        self._listeners.append(listener)

    def _report(self, error: Exception) -> None:
        """Log a defect of ours that was met while answering; only that caller loses its connection."""
        text = "".join(traceback.format_exception(error))
        self._context.log.emit(events.MASTER_FAILED, error=repr(error), traceback=text)

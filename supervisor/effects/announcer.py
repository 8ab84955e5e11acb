"""Tells of the daemon's state without being asked: process title, service manager, `master.ready`."""

from __future__ import annotations

from setproctitle import setproctitle

from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.endpoints import status
from taskqd.supervisor.host.systemd import Notifier

SHOW_S = 1.0
EXTRA_S = 10.0
"""What is asked of the service manager beyond what is needed."""


class Announcer:
    """Compares what it has told with the fleet; called once a turn, it shows details once a second."""

    def __init__(self, context: MasterContext, notifier: Notifier) -> None:
        self._context = context
        self._notifier = notifier
        self._title = ""
        self._shown_s = context.started_s - SHOW_S
        self._told_ready = False
        """The service manager knows."""
        self._was_complete = False
        """Every worker was ready once."""
        self._told_stopping = False
        self._reloads_told = 0
        self._reloading = False
        """The service manager waits for the end of a reload."""

    def tell_ready(self) -> None:
        """Say that the daemon serves: to the service manager at the first worker, then in the log."""
        context, fleet = self._context, self._context.fleet
        if fleet.served and not self._told_ready:
            self._told_ready = True
            self._notifier.ready()
            self._show_soon()
        if not self._was_complete and fleet.served and fleet.ready() >= fleet.wanted():
            self._was_complete = True
            context.log.emit(
                events.MASTER_READY,
                workers=fleet.ready(),
                boot_ms=round((context.clock() - context.started_s) * 1000, 1),
                admin=context.admin_path,
            )

    def show(self) -> None:
        now_s = self._context.clock()
        self._tell_reload()
        self._tell_stop()
        if now_s < self._shown_s + SHOW_S:
            return
        self._shown_s = now_s
        title = status.title(self._context)
        if title != self._title:
            self._title = title
            setproctitle(title)
        if self._notifier.active:
            self._notify(now_s)

    def _notify(self, now_s: float) -> None:
        fleet, notifier = self._context.fleet, self._notifier
        notifier.status(status.line(self._context))
        if fleet.stop is not None:
            notifier.extend(max(0.0, fleet.stop.timeline.end_s - now_s) + EXTRA_S)
        elif (fleet.loaded_s is not None and not fleet.served) or fleet.reload is not None:
            notifier.extend(EXTRA_S)
        if notifier.watchdog_s is not None and status.live(self._context)["ok"]:
            notifier.alive()

    def _tell_reload(self) -> None:
        """Ready again after a reload, with the new generation or the old; a stop has its own word."""
        fleet = self._context.fleet
        if fleet.reloads_begun > self._reloads_told:
            self._reloads_told, self._reloading = fleet.reloads_begun, True
            self._notifier.reloading()
        if self._reloading and fleet.reload is None:
            self._reloading = False
            if fleet.stop is None:
                self._notifier.ready()
            self._show_soon()

    def _tell_stop(self) -> None:
        if self._context.fleet.stop is not None and not self._told_stopping:
            self._told_stopping = True
            self._notifier.stopping()
            self._show_soon()

    def _show_soon(self) -> None:
        self._shown_s -= SHOW_S

    def close(self) -> None:
        self._notifier.close()

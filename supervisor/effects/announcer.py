"""What is seen from outside without asking: process title, service manager, stacks in the log."""

from __future__ import annotations

from collections.abc import Callable

from setproctitle import setproctitle

from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.endpoints import status
from taskqd.supervisor.host.systemd import Notifier
from taskqd.supervisor.state.fleet import Child

SHOW_S = 1.0
EXTRA_S = 10.0
"""What is asked of the service manager beyond what is needed."""


class Announcer:
    """Shows changes, at most once a second."""

    def __init__(self, context: MasterContext, notifier: Notifier) -> None:
        self._context = context
        self._notifier = notifier
        self._title = ""
        self._shown_s = context.started_s - SHOW_S
        self._told_ready = False
        """The service manager knows."""
        self._was_ready = False
        """Every worker was ready once."""
        self.on_silent: Callable[[Child], None] = lambda _child: None
        """Called with a child that was asked for its stacks, politely, and wrote none."""

    def worker_ready(self) -> None:
        """Say that the daemon serves: to the service manager at the first worker, then in the log."""
        context, fleet = self._context, self._context.fleet
        if not self._told_ready:
            self._told_ready = True
            self._notifier.ready()
            self._shown_s -= SHOW_S
        if not self._was_ready and fleet.ready() >= fleet.wanted():
            self._was_ready = True
            context.log.emit(
                events.MASTER_READY,
                workers=fleet.ready(),
                boot_ms=round((context.clock() - context.started_s) * 1000, 1),
                admin=context.admin_path,
            )

    def stop_begun(self) -> None:
        self._notifier.stopping()
        self._shown_s -= SHOW_S

    def reload_begun(self) -> None:
        self._notifier.reloading()

    def reload_ended(self) -> None:
        """Ready again, with the new generation or the old one; a stop has its own word."""
        if self._context.fleet.stop is None:
            self._notifier.ready()
        self._shown_s -= SHOW_S

    def show(self) -> None:
        now_s = self._context.clock()
        self._log_stacks(now_s)
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

    def _log_stacks(self, now_s: float) -> None:
        """Log the stacks that children were asked for, once they have been written."""
        for child in self._context.fleet.children():
            if child.stacks_at_s is None or now_s < child.stacks_at_s:
                continue
            stack = self._context.connections.take_stack(child.worker_id)
            if not stack and not child.stacks_insisted:
                self.on_silent(child)
                continue
            child.stacks_at_s = None
            self._context.stacks[str(child.name)] = stack
            self._context.log.emit(
                events.WORKER_STACKS,
                worker=child.name,
                generation=child.generation,
                stack=stack,
            )

    def close(self) -> None:
        self._notifier.close()

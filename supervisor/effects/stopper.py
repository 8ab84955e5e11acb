"""Stops the daemon: begins a stop, moves it forward, and tells the scheduler to go at its end."""

from __future__ import annotations

from taskqd.ipc import messages
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.state import timeline
from taskqd.supervisor.state.actions import AT_ONCE
from taskqd.supervisor.state.fleet import Stop
from taskqd.supervisor.state.lifecycle import ChildEvent

from .reloader import Reloader


class Stopper:
    def __init__(self, context: MasterContext, reloader: Reloader) -> None:
        self._context = context
        self._fleet = context.fleet
        self._reloader = reloader

    def begin(self, cause: str, exit_code: int = 0) -> Stop:
        """Begin a stop; the workers are drained by the next plan."""
        context, fleet = self._context, self._fleet
        fleet.stop = Stop(timeline.begin(context.clock(), fleet.grace_s), cause, exit_code)
        if not exit_code:
            context.log.emit(events.MASTER_DRAINING, signal=cause, grace_s=fleet.grace_s)
        self._reloader.stop()
        scheduler = fleet.scheduler.child
        if scheduler is not None:
            context.connections.tell(scheduler.worker_id, messages.Drain(grace_s=fleet.grace_s))
        return fleet.stop

    def begin_unasked(self, cause: str, exit_code: int, now: bool, error: str) -> None:
        """Begin a stop that nobody has asked for; `now`: with its end."""
        if error:
            self._context.log.emit(events.MASTER_FAILED, error=error, exit_code=exit_code)
        self.begin(cause, exit_code)
        if now:
            self.hurry(kill=True)

    def hurry(self, *, kill: bool) -> None:
        """Move a stop forward: end the drain now, or kill now."""
        stop, now_s = self._stop(), self._context.clock()
        sooner = timeline.cut if kill else timeline.hasten
        stop.timeline = sooner(stop.timeline, now_s)
        for child in self._fleet.living_workers():
            if child.drain.timeline is not None:
                child.drain.timeline = stop.timeline
            if kill and child.kill.reason:
                child.kill.ladder, child.kill.taken = AT_ONCE, 0

    def retire_scheduler(self) -> None:
        """Tell the scheduler to end its node and to exit."""
        scheduler = self._fleet.scheduler.child
        assert scheduler is not None
        self._stop().retired = True
        scheduler.apply(ChildEvent.DRAIN, self._context.clock())
        self._context.connections.tell(scheduler.worker_id, messages.Retire())

    def _stop(self) -> Stop:
        assert self._fleet.stop is not None
        return self._fleet.stop

"""Logs an outage of the storage: one line when it begins and one when it is over."""

from __future__ import annotations

from taskqd.ipc.messages import StorageLost
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.state.child import Child


class Outages:
    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._lost_s: float | None = None
        """When the storage was first missed; None: nobody misses it."""
        self._told_refused = False

    def lost(self, child: Child, said: StorageLost) -> None:
        """One line for an outage, and one more where it turns out that waiting does not help."""
        begins = self._lost_s is None
        if begins:
            self._lost_s, self._told_refused = self._context.clock(), False
        if begins or (said.refused and not self._told_refused):
            self._told_refused = said.refused
            self._context.log.emit(events.STORAGE_LOST, error=said.error)
        child.storage_error = said.error or "lost"

    def look_for_the_end(self) -> None:
        """One line for an outage, however many children have met it or were replaced in it.

        That the last one who missed the storage has died says nothing; a worker that serves does.
        """
        fleet = self._context.fleet
        if self._lost_s is None or any(child.storage_error for child in fleet.children()):
            return
        if fleet.ready():
            down_s = round(self._context.clock() - self._lost_s, 3)
            self._context.log.emit(events.STORAGE_RESTORED, down_s=down_s)
            self._lost_s = None

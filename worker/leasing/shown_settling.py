"""What is seen from outside of the ends that wait to be settled: their number, when it begins, when it is over."""

from __future__ import annotations

from taskqd.clock import monotonic_s
from taskqd.ipc import board
from taskqd.ipc.board import Row
from taskqd.logs import events
from taskqd.logs.setup import Log


class ShownSettling:
    """Used by the worker's loop only."""

    def __init__(self, row: Row, log: Log) -> None:
        self._row = row
        self._log = log
        self._count = 0
        self._most = 0
        self._since_s = 0.0

    def show(self, count: int, error: str) -> None:
        """Show that so many ends wait, the latest because of `error`."""
        if count == self._count:
            return
        before, self._count = self._count, count
        self._row.set_behind(board.SETTLING, count)
        self._most = max(self._most, count)
        if not before:
            self._since_s, self._most = monotonic_s(), count
            self._log.emit(events.SETTLING_BEGUN, count=count, error=error)
        elif not count:
            lasted_s = round(monotonic_s() - self._since_s, 3)
            self._log.emit(events.SETTLING_OVER, most=self._most, lasted_s=lasted_s)

"""Asks children for the stacks of their threads, and logs them once they are written."""

from __future__ import annotations

from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.state.child import Child

WRITTEN_S = 0.3
"""From a request for stacks until they are written."""
ASK, INSIST = "SIGUSR2", "SIGUSR1"
"""Requests for stacks: one that a child answers between two acts, one that its faulthandler
answers at once, whatever its threads do: that can crash them."""


class Stacks:
    """The only writer of `Child.stacks`."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context

    def ask(self, child: Child, signal: str = ASK) -> None:
        """Let it write its stacks, to be read a moment later."""
        # Before it has booted it has no handler yet, and the signal would kill it.
        if child.boot.handles_signals:
            self._context.connections.signal(child.worker_id, signal)
            child.stacks.insisted = signal == INSIST
            child.stacks.readable_s = self._context.clock() + WRITTEN_S

    def take(self, child: Child) -> str:
        """Return what it has written so far, whether it is time or not; the request is over."""
        child.stacks.readable_s = None
        child.stacks.last = self._context.connections.take_stack(child.worker_id)
        return child.stacks.last

    def log_written(self) -> None:
        """Log the stacks that children were asked for, once they have been written."""
        now_s = self._context.clock()
        for child in self._context.fleet.children():
            if child.stacks.readable_s is not None and now_s >= child.stacks.readable_s:
                self._log(child)

    def _log(self, child: Child) -> None:
        stack = self._context.connections.take_stack(child.worker_id)
        if not stack and not child.stacks.insisted:
            self.ask(child, INSIST)
            return
        child.stacks.readable_s = None
        self._context.stacks[str(child.name)] = stack
        self._context.log.emit(
            events.WORKER_STACKS,
            worker=child.name,
            generation=child.generation,
            stack=stack,
        )

"""How one worker ends: drained once its jobs are done, or interrupted when their grace is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from taskqd.clock import monotonic_s
from taskqd.ipc import board, messages
from taskqd.jobs.job import Outcome
from taskqd.worker.connection.last_words import LastWords
from taskqd.worker.connection.settlement import tell_unsettled
from taskqd.worker.host import syscalls
from taskqd.worker.slots.base import JobRunner, Slots

from . import interruption
from .context import WorkerContext, WorkerOrders
from .storage_client import StorageClient

PATIENCE_S = 0.5
BURST_LOOK_S = 0.2


class Ending:
    """Used by the worker's loop only.  `finish_if_done` and `interrupt` may raise StorageError."""

    def __init__(
        self,
        context: WorkerContext,
        orders: WorkerOrders,
        client: StorageClient,
        slots: Slots,
        runner: JobRunner,
    ) -> None:
        self._context = context
        self._orders = orders
        self._client = client
        self._slots = slots
        self._runner = runner
        self.over = False
        """The worker's loop shall return."""
        self.exit_code = 0
        self.interrupted = False
        """Jobs were requeued while they ran: the slots may never become free."""
        self.interrupt_at_s = math.inf
        """When the grace of the jobs that run is over, on the monotonic clock."""
        self._patience_s: float | None = PATIENCE_S
        """From JobInterrupted to the end of who ignores it; None: it was raised."""
        self._look_at_s = 0.0
        self._words = LastWords()
        self._written: set[int] = set()
        """Tokens of the ends that were written down."""

    def stop(self, grace_s: float) -> None:
        """Begin to end: lease no more, and let the jobs know that they have `grace_s` left."""
        if not self._context.stop_state.stopping:
            self._client.released = 0
        self._context.stop_state.begin(grace_s)

    def stop_alone(self) -> None:
        """Stop where no master ends the grace: the worker's loop does."""
        self.stop(self._orders.grace_s)
        self.interrupt_at_s = min(self.interrupt_at_s, self._context.stop_state.deadline_s)

    def interrupt_now(self, patience_s: float) -> None:
        """End the grace at once; who ignores JobInterrupted has `patience_s` more."""
        self._patience_s = patience_s
        self.interrupt_at_s = 0.0

    def finish_if_done(self) -> None:
        """End a stop that has nothing left to do; tell the master of a burst that may be over."""
        ledger = self._client.ledger
        if self._context.stop_state.stopping and not ledger.in_slots and not self._client.pending:
            self._end()
        elif self._may_be_over() and monotonic_s() >= self._look_at_s:
            self._look_at_s = monotonic_s() + BURST_LOOK_S
            if self._client.burst_is_over(self._context.node_id, self._orders.queues):
                self._context.channel.send(messages.Empty())

    def look_at_s(self) -> float:
        """Return when to look whether a burst is over, on the monotonic clock."""
        return self._look_at_s if self._may_be_over() else math.inf

    def _may_be_over(self) -> bool:
        """Burst: this worker found nothing to do; are all workers of this node done?"""
        ledger = self._client.ledger
        is_empty = not ledger.in_slots and not self._client.pending
        return self._orders.burst and ledger.dry and is_empty

    def raises_interrupt(self, now_s: float) -> bool:
        """Ask jobs by an exception to end; True: some may do so now, and are waited for."""
        patience_s, self._patience_s = self._patience_s, None
        if patience_s is None:
            return False
        self._context.stop_state.begin(0.0)
        self.interrupt_at_s = now_s + patience_s
        return bool(self._slots.interrupt()) and patience_s > 0

    def interrupt(self, *, after_outage: bool) -> None:
        """Requeue what runs, settle what is finished, and end at once."""
        self.interrupted = True
        self._client.release_all(after_outage=after_outage)
        running = self._client.running()
        self._client.interrupt(interruption.outcomes(running, self._context.row, self._runner))
        self.strike_out()
        self._end()

    def write_down(self, ended: Sequence[Outcome]) -> None:
        """Keep on this host what has ended, while its storage is away: this worker may be killed."""
        tokens = {end.token for end in ended}
        if tokens != self._written:
            # What cannot be kept is told of when this worker has to go.
            with suppress(OSError):
                self._words.say(self._context.worker_id, ended)
                self._written = tokens

    def strike_out(self) -> None:
        """Forget what was written down: the storage has heard it."""
        if self._written:
            self._written = set()
            self._words.forget(self._context.worker_id)

    def leave_unsettled(self) -> None:
        """End without the storage: the master has this worker's jobs recovered, by its last words."""
        context = self._context
        running = self._client.left_running()
        ended = self._client.unsettled()
        back = interruption.outcomes(running, context.row, self._runner)
        try:
            self._words.say(context.worker_id, [*ended, *back], left=True)
        except OSError as error:
            for end in ended:
                tell_unsettled(context.log, end, str(error))
        self.over = True
        self.exit_code = syscalls.EXIT_UNSETTLED

    def _end(self) -> None:
        self.over = True
        # Those that this worker requeued, and those that saw that it stops and went back.
        interrupted = self._context.row.get(board.INTERRUPTED)
        self._context.channel.send(
            messages.Drained(self._client.finished, self._client.released, interrupted)
        )

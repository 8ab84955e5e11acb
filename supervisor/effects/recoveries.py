"""Has the scheduler give back the jobs that a dead or silent worker held."""

from __future__ import annotations

from taskqd.ipc.messages import RecoverWorker, WorkerRecovered
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.policy.verdict import RecoveryTerms
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import PendingRecovery


class Recoveries:
    """The recoveries that wait for the scheduler's answer: noted, sent, and struck off."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._pending = context.fleet.pending_recoveries

    def request(self, child: Child, tokens: tuple[int, ...], terms: RecoveryTerms) -> None:
        """Note that what `child` holds must be given back; it had started the jobs of `tokens`.

        law: a scheduler that serves is told at once, before the worker's row is cleared: one that
        outlives its master takes what stands in no row as not begun
        (test_what_a_worker_ran_that_died_just_before_its_master_was_not_counted).
        """
        child.drain.recovery_requested = True
        self._pending[child.worker_id] = PendingRecovery(
            RecoverWorker(
                worker_id=child.worker_id,
                running=tokens,
                how=terms.how,
                verdict=terms.verdict,
                late=terms.late,
            )
        )
        if self._context.fleet.scheduler_ready() is not None:
            self.send(child.worker_id)

    def send(self, worker_id: str) -> None:
        """Send the recovery of this worker to the scheduler that serves."""
        scheduler = self._context.fleet.scheduler_ready()
        assert scheduler is not None
        recovery = self._pending[worker_id]
        recovery.sent_to = scheduler.worker_id
        self._context.connections.tell(scheduler.worker_id, recovery.order)

    def done(self, said: WorkerRecovered) -> None:
        """Count what the scheduler has given back, once."""
        if self._pending.pop(said.worker_id, None) is None:
            return
        totals = self._context.totals
        totals.orphaned += said.orphaned
        totals.interrupted += said.interrupted
        totals.handed_back += said.released

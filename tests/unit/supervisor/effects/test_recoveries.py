"""What a dead worker held: noted once, sent, and struck off when it is answered."""

from __future__ import annotations

from taskqd.ipc.messages import RecoverWorker, WorkerRecovered
from taskqd.supervisor.effects.recoveries import Recoveries
from taskqd.supervisor.policy.verdict import RecoveryTerms
from tests.support.rigs.fleets import scheduler_id, worker
from tests.support.rigs.masters import context_of


def test_a_recovery_is_pending_until_it_is_answered_and_counted_once() -> None:
    with context_of() as context:
        recoveries = Recoveries(context)
        child = worker(context.fleet)
        recoveries.request(child, (7,), RecoveryTerms("orphaned", "killed"))
        pending = context.fleet.pending_recoveries[child.worker_id]
        assert pending.order == RecoverWorker("n.0", (7,), "orphaned", "killed")
        assert child.drain.recovery_requested
        recoveries.send(child.worker_id)
        assert pending.sent_to == scheduler_id(context.fleet)
        for _ in range(2):
            recoveries.done(WorkerRecovered("n.0", orphaned=1, released=2, interrupted=3))
        assert not context.fleet.pending_recoveries
        totals = context.totals
        assert (totals.orphaned, totals.handed_back, totals.interrupted) == (1, 2, 3)

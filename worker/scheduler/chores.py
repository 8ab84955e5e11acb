"""What a scheduler does for its queues: due jobs, recovery, ticks, purges, and the master's errands.

One thread, one storage connection.  Each chore says when it wants to be called again.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from select import EPOLLET, EPOLLIN, epoll
from typing import NamedTuple

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.execution.protocols import JobView
from taskqd.ipc.messages import Counted, Depth, RecoverWorker, StorageRestored, WorkerRecovered
from taskqd.jobs.job import Lease, Outcome
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, QueueRow, Recovered, Storage
from taskqd.worker.connection.outage import Outage, loss
from taskqd.worker.connection.wakeup import Wakeup
from taskqd.worker.host import procfs

from . import predecessors
from .outbox import Outbox
from .parked_jobs import ParkedJobs
from .ticker import Ticker

PROMOTE_MAX = 1000
PROMOTE_CAP_S = 1.0
"""Between two looks at the delayed jobs of a storage that cannot ring for new ones."""
PURGE_S = 60.0
PREDECESSOR_S = 1.0
TURN_S = 5.0
"""The loop turns at least so often, which shows that it is not stuck."""
NEVER_S = 1e9
QUEUES_TOLD_MAX = 300
"""They have to fit in one packet."""


class Duty(NamedTuple):
    """For what a scheduler is responsible."""

    node: Node
    queues: Sequence[str]
    lease_s: float
    limits: LimitSettings
    ticker: Ticker
    interrupted: Callable[[Lease], Outcome]
    """Makes the outcome of a job that is stopped with its worker."""
    tell: Callable[[str, JobView], None] = lambda signal, job: None
    """The handlers of "orphaned" and "requeued"."""
    parked_jobs: ParkedJobs | None = None


class Chore:
    def __init__(self, run: Callable[[], float]) -> None:
        """`run` returns after how many seconds it is due again."""
        self.run = run
        self.due_s = 0.0


class Chores:
    """`run` is a thread's; `withdraw`, `stop_ticking` and `retire` may be called by another."""

    def __init__(
        self, duty: Duty, open_storage: Callable[[], Storage], outbox: Outbox, log: Log
    ) -> None:
        self._duty = duty
        self._open_storage = open_storage
        self._outbox = outbox
        self._log = log
        self._opened: Storage | None = None
        self._poll = epoll()
        self._call = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._call, EPOLLIN | EPOLLET)
        self._wakeup = Wakeup(lambda: self._storage().timer_bell(self._duty.queues), self._poll)
        self._outage = Outage(random.uniform)
        self._errands: deque[RecoverWorker] = deque()
        self._promote = Chore(self._promote_due)
        self._ticks = Chore(self._fire_ticks)
        self._chores = [
            Chore(self._recover_predecessors),
            self._promote,
            self._ticks,
            Chore(self._recover),
            Chore(self._purge),
            Chore(self._return_parked),
        ]
        self._schedules_old = True
        self._counts = False
        self._over = False
        self.progress_s = monotonic_s()
        """When the loop last turned."""
        self.heard_s = 0.0
        """When the storage last answered."""

    # -- called by the main thread -----------------------------------------------------------

    def recover_worker(self, errand: RecoverWorker) -> None:
        self._errands.append(errand)
        os.eventfd_write(self._call, 1)

    def count(self) -> None:
        """Tell the master once how many jobs the queues hold."""
        self._counts = True
        os.eventfd_write(self._call, 1)

    def serve(self, queues: Sequence[str]) -> None:
        self._duty = self._duty._replace(queues=queues)

    def stop_ticking(self) -> None:
        self._ticks.run = lambda: NEVER_S

    def retire(self) -> None:
        """End the thread once the errands are run."""
        self._over = True
        os.eventfd_write(self._call, 1)

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        while not self._over:
            self._round()
            self._sleep()
        self._round()
        self._close()

    def _round(self) -> None:
        """Do what is due.  A storage that fails ends the round; what was not done is due still."""
        if monotonic_s() < self._outage.retry_at_s:
            return
        try:
            self._run_errands()
            for chore in self._chores:
                self.progress_s = monotonic_s()
                if self.progress_s >= chore.due_s and not self._over:
                    chore.due_s = monotonic_s() + chore.run()
                    self.heard_s = monotonic_s()
            if self._counts:
                self._counts = False
                self._outbox.say(_counted(self._storage().queues()))
            self._answered()
        except StorageError as error:
            self._failed(error)

    def _sleep(self) -> None:
        self.progress_s = now_s = monotonic_s()
        wake_s = min(chore.due_s for chore in self._chores)
        wake_s = min(max(wake_s, self._outage.retry_at_s), now_s + TURN_S)
        for fd, _ in self._poll.poll(max(0.0, wake_s - now_s)):
            if self._wakeup.rings(fd):
                self._answer_bell()

    def _answer_bell(self) -> None:
        self._promote.due_s = 0.0
        try:
            self._wakeup.answer()
        except StorageError as error:
            self._failed(error)

    def _storage(self) -> Storage:
        if self._opened is None:
            self._opened = self._open_storage()
        return self._opened

    def _answered(self) -> None:
        if self._outage.lasts:
            self._outbox.say(StorageRestored(self._outage.lasted_s(monotonic_s())))
            self._outage.over()
            self._outage.steady()

    def _failed(self, error: StorageError) -> None:
        if self._outage.failed(monotonic_s(), str(error)):
            self._outbox.say(loss(error))
        self._wakeup.close()
        # Its bell is gone: only a look at the delayed jobs arms it again.
        self._promote.due_s = 0.0

    def _close(self) -> None:
        self._wakeup.close()
        if self._opened is not None:
            self._opened.close()

    # -- the chores --------------------------------------------------------------------------

    def _promote_due(self) -> float:
        if not self._wakeup.armed:
            self._wakeup.arm()
            # Nobody could ring for a changed schedule until now.
            self._schedules_old, self._ticks.due_s = True, 0.0
        due = self._storage().promote(self._duty.queues, PROMOTE_MAX)
        if due.promoted >= PROMOTE_MAX:
            return 0.0
        cap_s = self._wakeup.poll_s if self._wakeup.wakes else PROMOTE_CAP_S
        return cap_s if due.next_in_s is None else max(0.0, min(due.next_in_s, cap_s))

    def _recover(self) -> float:
        self._tell(self._storage().recover(self._duty.queues), "its node's lease ran out")
        return self._duty.lease_s / 4 * random.uniform(0.75, 1.25)

    def _recover_predecessors(self) -> float:
        """A daemon of this name that is known to be dead is recovered without waiting."""
        rows = self._storage().nodes()
        for node in predecessors.dead(self._duty.node, rows, procfs.runs):
            self._tell(self._storage().recover_node(node, self._duty.queues), "its daemon died")
        return PREDECESSOR_S if predecessors.lingering(self._duty.node, rows) else NEVER_S

    def _purge(self) -> float:
        limits = self._duty.limits
        self._storage().purge(
            self._duty.queues, dead_ttl_s=limits.dead_ttl_s, dead_max=limits.dead_max
        )
        return PURGE_S * random.uniform(0.75, 1.25)

    def _return_parked(self) -> float:
        parked_jobs = self._duty.parked_jobs
        if parked_jobs is None:
            return NEVER_S
        return parked_jobs.look(self._storage(), self._duty.queues, self._log)

    def _fire_ticks(self) -> float:
        look, self._schedules_old = self._schedules_old, False
        try:
            return self._duty.ticker.fire(self._storage(), self._log, look=look)
        except StorageError:
            self._schedules_old |= look
            raise

    # -- errands of the master ---------------------------------------------------------------

    def _run_errands(self) -> None:
        while self._errands:
            errand = self._errands[0]
            interrupted = self._interrupt_siblings(errand) if errand.late else 0
            recovered = self._storage().recover_worker(
                errand.worker_id,
                self._duty.queues,
                running=errand.late or errand.running,
                how="timeout" if errand.late else errand.how,
                verdict=errand.verdict,
            )
            self._errands.popleft()
            self._tell(recovered, errand.verdict)
            self._outbox.say(_recovered(errand.worker_id, recovered, interrupted))

    def _interrupt_siblings(self, errand: RecoverWorker) -> int:
        """Requeue what ran beside the late jobs, as its worker would have; returns how many."""
        storage, queues = self._storage(), self._duty.queues
        beside = {*errand.running} - {*errand.late}
        held = [j for j in storage.holdings(errand.worker_id, queues) if j.token in beside]
        if held:
            storage.settle(errand.worker_id, [self._duty.interrupted(job) for job in held])
        return len(held)

    def _tell(self, recovered: Sequence[Recovered], verdict: str) -> None:
        verdict = verdict.partition("\n")[0]
        for job in recovered:
            facts = {"job_id": job.id, "queue": job.queue}
            if job.how == "orphaned":
                crashes = job.marks.crashes
                self._log.emit(events.JOB_ORPHANED, **facts, crashes=crashes, verdict=verdict)
            self._log.emit(events.JOB_RECOVERED, **facts, how=job.how)
            view = JobView(job.id, "", job.queue, job.marks, job.how)
            for signal in ("orphaned", "requeued") if job.how == "orphaned" else ("requeued",):
                self._duty.tell(signal, view)


def _recovered(worker_id: str, recovered: Sequence[Recovered], settled: int) -> WorkerRecovered:
    hows = [job.how for job in recovered]
    interrupted = settled + hows.count("interrupted")
    return WorkerRecovered(worker_id, hows.count("orphaned"), hows.count("released"), interrupted)


def _counted(rows: Sequence[QueueRow]) -> Counted:
    busiest = sorted(rows, key=lambda row: -row.queued)[:QUEUES_TOLD_MAX]
    return Counted(tuple(Depth(*row) for row in busiest))

"""Recovery: the jobs of dead workers and dead nodes go back to their queues, and who listens is told."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.execution.protocols import JobView
from taskqd.ipc.messages import Message, RecoverWorker, WorkerRecovered
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Recovered, Storage
from taskqd.worker.connection.outage import SILENT_S
from taskqd.worker.host import procfs
from taskqd.worker.host.event_queue import EventQueue

from . import predecessors
from .duty import NEVER_S, Duty
from .inherited_ends import InheritedEnds

T = TypeVar("T")
PREDECESSOR_S = 1.0
OVER_LOOK_S = 0.25
"""Between two looks while a lease has ended, and the storage has not served for long enough."""
MARGIN_S = 0.02
"""Behind the end of a lease, so that the look finds it over."""


class Recovery:
    """Used by the thread of the chores only; `requests` takes what other threads ask for.

    Every method may raise StorageError; what was not done then is done at the next call.
    """

    def __init__(
        self, duty: Duty, storage: Callable[[], Storage], outbox: EventQueue[Message], log: Log
    ) -> None:
        """`storage`: returns the connection of the chores."""
        self.duty = duty
        self._storage = storage
        self._outbox = outbox
        self._log = log
        self._inherited = InheritedEnds(duty.interrupted, log)
        self._pending: deque[RecoverWorker] = deque()
        self._told: dict[str, Counter[str]] = {}
        """Worker -> what was recovered of it so far, while a server is away that may hold more."""
        self.requests: EventQueue[RecoverWorker] = EventQueue()
        """Dead workers that the master names."""

    def silent_nodes(self) -> float:
        """Recover nodes whose lease is over; return after how many seconds to look again."""
        storage, queues, me = self._storage(), self.duty.queues, self.duty.node.id
        for recovered in self._each_part(lambda part, _: storage.recover(part, spare=me)):
            self._tell(recovered, "its node's lease ran out")
        first_end_s = storage.next_expiry_s(queues, spare=me)
        return next_look_s(self.duty.lease_s, first_end_s, random.uniform)

    def predecessors(self) -> float:
        """Recover daemons of this name that are known to be dead, without waiting for their lease."""
        rows = self._storage().nodes()
        for node in predecessors.dead(self.duty.node, rows, procfs.runs):
            for worker in self._inherited.workers_of(node):
                self._inherit(worker)
            self._tell(self._storage().recover_node(node, self.duty.queues), "its daemon died")
        return PREDECESSOR_S if predecessors.lingering(self.duty.node, rows) else NEVER_S

    def _inherit(self, worker: str) -> None:
        """Do for a worker of a dead daemon what that could not do any more."""
        if order := self._inherited.ordered(worker):
            self._carry_out(order)
            return
        self._inherited.settle(self._storage(), worker, self.duty.queues)
        self._inherited.forget(worker)

    def requested(self) -> None:
        """Recover the workers that the master has named, and tell it of each."""
        self._pending += self.requests.take()
        failure: StorageError | None = None
        since_s = monotonic_s()
        for _ in range(len(self._pending)):
            try:
                answer = self._carry_out(self._pending[0])
            except StorageError as error:
                failure = failure or error
                # law: a silent server is waited for once in a call, and next time for another order
                # (test_many_orders_wait_for_a_silent_server_once_and_take_turns).
                self._pending.rotate(-1)
                is_spread = len(self._storage().parts(self.duty.queues)) > 1
                if not is_spread or monotonic_s() > since_s + SILENT_S:
                    break
            else:
                self._pending.popleft()
                self._outbox.put(answer)
        if failure is not None:
            raise failure

    def _carry_out(self, order: RecoverWorker) -> WorkerRecovered:
        """Write the last words of a dead worker, and recover the rest of what it holds."""
        storage, worker = self._storage(), order.worker_id
        told = self._told.setdefault(worker, Counter())
        for recovered, interrupted in self._each_part(
            lambda part, whole: self._inherited.carry_out(storage, order, part, whole=whole)
        ):
            self._tell(recovered, order.verdict)
            told.update(job.how for job in recovered)
            told["interrupted"] += interrupted
        self._inherited.forget(worker)
        del self._told[worker]
        return WorkerRecovered(worker, told["orphaned"], told["released"], told["interrupted"])

    def _each_part(self, call: Callable[[Sequence[str], bool], T]) -> Iterator[T]:
        """Call for all queues, or, where a server is away, for those of each other one.

        law: what servers that are there hold is recovered, though another one is away; its part is done
        at a later call (test_what_other_servers_hold_is_recovered_while_one_is_away).
        """
        queues = self.duty.queues
        try:
            yield call(queues, True)
            return
        except StorageError as error:
            failure = error
        parts, since_s = self._storage().parts(queues), monotonic_s()
        for part in parts if len(parts) > 1 else ():
            with suppress(StorageError):
                yield call(part, False)
            if monotonic_s() > since_s + SILENT_S:
                break
        raise failure

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
                self.duty.tell(signal, view)


def next_look_s(
    lease_s: float, first_end_s: float | None, uniform: Callable[[float, float], float]
) -> float:
    """Return after how many seconds to look for silent nodes again.

    `first_end_s`: until the first lease of another node ends, negative where it has ended and the
    storage has not served for long enough since a break; None: there is no other node.
    """
    rarely_s = lease_s / 4 * uniform(0.75, 1.25)
    if first_end_s is None:
        return rarely_s
    if first_end_s <= 0:
        return min(rarely_s, OVER_LOOK_S)
    return min(rarely_s, first_end_s + MARGIN_S)

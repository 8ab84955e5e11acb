"""What a scheduler does for its queues: due jobs, recovery, ticks, purges, and what the master asks for.

One thread, one storage connection.  Each chore says when it wants to be called again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from select import EPOLLET, EPOLLIN, epoll

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.ipc.messages import Counted, Depth, Message, RecoverWorker, StorageRestored
from taskqd.logs.setup import Log
from taskqd.storage.base import QueueRow, Storage
from taskqd.worker.connection.outage import Outage, loss
from taskqd.worker.connection.wakeup import Wakeup
from taskqd.worker.host.event_queue import EventQueue

from .duty import NEVER_S, Duty
from .recovery import Recovery

PROMOTE_MAX = 1000
PROMOTE_CAP_S = 1.0
"""Between two looks at the delayed jobs of a storage that cannot ring for new ones."""
PURGE_S = 60.0
TURN_S = 5.0
"""The loop turns at least so often, which shows that it is not stuck."""
QUEUES_TOLD_MAX = 300
"""They have to fit in one packet."""


class Chore:
    def __init__(self, run: Callable[[], float]) -> None:
        """`run` returns after how many seconds it is due again."""
        self.run = run
        self.due_s = 0.0


class Chores:
    """`run` is a thread's; `recover_worker`, `count`, `serve`, `stop_ticking` and `retire` may be called by another."""

    def __init__(
        self, duty: Duty, open_storage: Callable[[], Storage], outbox: EventQueue[Message], log: Log
    ) -> None:
        self._duty = duty
        self._open_storage = open_storage
        self._outbox = outbox
        self._log = log
        self._opened: Storage | None = None
        self._poll = epoll()
        self._recovery = Recovery(duty, self._storage, outbox, log)
        self._poll.register(self._recovery.requests.fileno(), EPOLLIN | EPOLLET)
        self._wakeup = Wakeup(lambda: self._storage().timer_bell(self._duty.queues), self._poll)
        self._outage = Outage(random.uniform)
        self._promote = Chore(self._promote_due)
        self._ticks = Chore(self._fire_ticks)
        self._parked = Chore(self._return_parked)
        self._chores = [
            Chore(self._recovery.predecessors),
            self._promote,
            self._ticks,
            Chore(self._recovery.silent_nodes),
            Chore(self._purge),
            self._parked,
        ]
        self._schedules_old = True
        self._counts = False
        self._over = False
        self.progress_s = monotonic_s()
        """When the loop last turned."""
        self.heard_s = 0.0
        """When the storage last answered."""

    # -- called by the main thread -----------------------------------------------------------

    def recover_worker(self, request: RecoverWorker) -> None:
        self._recovery.requests.put(request)

    def count(self) -> None:
        """Tell the master once how many jobs the queues hold."""
        self._counts = True
        self._recovery.requests.ring()

    def serve(self, queues: Sequence[str]) -> None:
        self._duty = self._recovery.duty = self._duty._replace(queues=queues)

    def stop_ticking(self) -> None:
        self._ticks.run = lambda: NEVER_S

    def retire(self) -> None:
        """End the thread once the master's requests are met."""
        self._over = True
        self._recovery.requests.ring()

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> None:
        while not self._over:
            self._round()
            self._sleep()
        self._round()
        self._close()

    def _round(self) -> None:
        """Do what is due.  What fails is due still."""
        if monotonic_s() < self._outage.retry_at_s:
            return
        failure = self._first_failure()
        if failure is not None:
            self._failed(failure)
        else:
            self._answered()

    def _first_failure(self) -> StorageError | None:
        """Do what is due, up to the first failure: a storage that is away would fail it all.

        law: of several servers some may be away: what the others have is done all the same
        (test_what_fails_at_one_server_does_not_keep_the_rest_from_being_done).
        """
        failure: StorageError | None = None
        for step in (
            self._recovery.requested,
            *map(self._when_due, self._chores),
            self._tell_counts,
        ):
            try:
                step()
            except StorageError as error:
                failure = failure or error
                if not self._is_spread():
                    break
        return failure

    def _is_spread(self) -> bool:
        """Return whether the queues are on several servers."""
        return self._opened is not None and len(self._opened.parts(self._duty.queues)) > 1

    def _when_due(self, chore: Chore) -> Callable[[], None]:
        def run() -> None:
            self.progress_s = monotonic_s()
            if self.progress_s >= chore.due_s and not self._over:
                chore.due_s = monotonic_s() + chore.run()
                self.heard_s = monotonic_s()

        return run

    def _tell_counts(self) -> None:
        if self._counts:
            self._counts = False
            self._outbox.put(_counted(self._storage().queues()))

    def _sleep(self) -> None:
        self.progress_s = now_s = monotonic_s()
        wake_s = min(chore.due_s for chore in self._chores)
        wake_s = min(max(wake_s, self._outage.retry_at_s), now_s + TURN_S)
        for fd, _ in self._poll.poll(max(0.0, wake_s - now_s)):
            if self._wakeup.rings(fd):
                self._answer_bell()

    def _answer_bell(self) -> None:
        try:
            if self._wakeup.answer() is not None:
                # What rings is a delayed job that comes first, or a letter that waits for who knows it.
                self._promote.due_s = self._parked.due_s = 0.0
        except StorageError as error:
            self._failed(error)

    def _storage(self) -> Storage:
        if self._opened is None:
            self._opened = self._open_storage()
        return self._opened

    def _answered(self) -> None:
        if self._outage.lasts:
            self._outbox.put(StorageRestored(self._outage.lasted_s(monotonic_s())))
            self._outage.over()
            self._outage.steady()

    def _failed(self, error: StorageError) -> None:
        if self._outage.failed(monotonic_s(), str(error)):
            self._outbox.put(loss(error))
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
        duty = self._duty
        return parked_jobs.look(self._storage(), duty.node.id, duty.queues, self._log)

    def _fire_ticks(self) -> float:
        look, self._schedules_old = self._schedules_old, False
        try:
            return self._duty.ticker.fire(self._storage(), self._log, look=look)
        except StorageError:
            self._schedules_old |= look
            raise


def _counted(rows: Sequence[QueueRow]) -> Counted:
    busiest = sorted(rows, key=lambda row: -row.queued)[:QUEUES_TOLD_MAX]
    return Counted(tuple(Depth(*row) for row in busiest))

"""Writes what workers have left as last words: their jobs have ended, or go back as interrupted.

law: a stop while the storage is away counts no crash, makes no job a suspect and repeats no job that
had ended (test_a_stop_while_the_storage_was_away_counted_crashes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from taskqd.errors import QueueFull
from taskqd.execution import follow_ups
from taskqd.ipc.messages import RecoverWorker
from taskqd.jobs.end import END_NOTE, End, encode_end
from taskqd.jobs.job import Lease, Outcome
from taskqd.logs.setup import Log
from taskqd.storage.base import Recovered, Storage
from taskqd.storage.features import LeaseKey
from taskqd.worker.connection.last_words import LastWords
from taskqd.worker.connection.settlement import Settlement


class InheritedEnds:
    """Used by one thread of the scheduler.  `settle` may raise StorageError: then call it again."""

    def __init__(
        self,
        interrupted: Callable[[Lease], Outcome],
        log: Log,
        words: LastWords | None = None,
    ) -> None:
        """`interrupted`: makes the outcome of a job that is stopped with its worker."""
        self._interrupted = interrupted
        self._settlement = Settlement(log)
        self._words = words or LastWords()
        self._swept = False

    def workers_of(self, node: str) -> list[str]:
        """Return the workers of a dead node that have left something."""
        if not self._swept:
            self._swept = True
            self._words.sweep()
        return self._words.workers_of(node)

    def settle(
        self, storage: Storage, worker: str, queues: Sequence[str], *, whole: bool = True
    ) -> int:
        """Settle what a dead worker has left, as far as it still holds it; return how many go back.

        `whole`: also what it has left of other queues than these.
        """
        left = self._words.heard(worker).ends
        if not whole:
            left = [end for end in left if end.queue in queues]
        if not left:
            return 0
        asked = tuple(dict.fromkeys((*queues, *(end.queue for end in left))))
        held = {(job.id, job.token): job for job in storage.holdings(worker, asked)}
        mine = [(end, held[end.id, end.token]) for end in left if (end.id, end.token) in held]
        outcomes = [self._followed(storage, worker, end, lease) for end, lease in mine]
        if outcomes:
            settled = storage.settle(worker, outcomes)
            counted = self._settlement.conclude(storage, worker, outcomes, settled)
            return sum(outcome.kind == "requeue" for outcome in counted)
        return 0

    def ordered(self, worker: str) -> RecoverWorker | None:
        """Return what is to be done with the rest of what a dead worker holds; None: not known.

        law: a worker that was killed is not said to have left: what it ran has died with it
        (test_what_a_killed_worker_ran_is_not_released).
        """
        order = self._words.ordered(worker)
        if order is None and self._words.heard(worker).left:
            return RecoverWorker(worker, (), "interrupted")
        return order

    def carry_out(
        self, storage: Storage, order: RecoverWorker, queues: Sequence[str], *, whole: bool = True
    ) -> tuple[list[Recovered], int]:
        """Write the last words of a dead worker, and recover the rest of what it holds.

        Returns what was recovered, and how many of its jobs were interrupted besides.  What is written
        down is kept: see `forget`.
        """
        worker = order.worker_id
        interrupted = self.settle(storage, worker, queues, whole=whole)
        interrupted += self._interrupt_siblings(storage, order, queues) if order.late else 0
        recovered = storage.recover_worker(
            worker,
            queues,
            running=order.late or order.running,
            how="timeout" if order.late else order.how,
            verdict=order.verdict,
        )
        return recovered, interrupted

    def _interrupt_siblings(
        self, storage: Storage, order: RecoverWorker, queues: Sequence[str]
    ) -> int:
        """Requeue what ran beside the late jobs, as its worker would have; return how many."""
        worker, beside = order.worker_id, {*order.running} - {*order.late}
        held = [job for job in storage.holdings(worker, queues) if job.token in beside]
        if held:
            ends = [self._interrupted(job) for job in held]
            settled = storage.settle(worker, ends)
            self._settlement.conclude(storage, worker, ends, settled)
        return len(held)

    def order(self, order: RecoverWorker) -> None:
        """Keep an order of the master until it is carried out, if need be by the next daemon."""
        # Without it, the jobs seem to have died with their daemon.
        with suppress(OSError):
            self._words.order(order)

    def forget(self, worker: str) -> None:
        self._words.forget(worker)

    def _followed(self, storage: Storage, worker: str, end: End, lease: Lease) -> Outcome:
        """Write what follows an end; where there is no room, the job goes back with its end."""
        try:
            follow_ups.write(storage, end.follow_ups)
        except QueueFull:
            hold = LeaseKey(worker, end.id, end.queue, end.token)
            storage.note(hold, END_NOTE, encode_end(end))
            return self._interrupted(lease)
        return end

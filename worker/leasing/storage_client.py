"""One worker's business with its storage: lease, settle, release, and recover from an outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taskqd.clock import monotonic_s
from taskqd.errors import QueueFull, StorageError, StorageUnavailable
from taskqd.execution import follow_ups
from taskqd.ipc import board
from taskqd.ipc.board import Row
from taskqd.jobs.end import END_NOTE, End, encode_end
from taskqd.jobs.job import Lease, Outcome, Reason
from taskqd.jobs.parked import is_untold
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage
from taskqd.storage.features import LeaseKey
from taskqd.worker.connection.away_queues import AwayQueues
from taskqd.worker.connection.settlement import Settlement, tell_unsettled
from taskqd.worker.host import native_threads
from taskqd.worker.slots.base import JobRunner, Slots, Usage

from .ledger import LeaseLedger
from .quarantine import Quarantine
from .queue_order import QueueOrder
from .reconciliation import Reconciliation
from .settling import Settling

_SNAPSHOT_WAIT_S = 1.0
_COUNTED_AS = {"ack": board.DONE, "retry": board.RETRIED, "bury": board.FAILED}


class StorageClient:
    """Used by the worker's loop's thread only.  Every method may raise StorageError."""

    def __init__(
        self,
        worker: str,
        storage: Storage,
        order: QueueOrder,
        slots: Slots,
        runner: JobRunner,
        row: Row,
        log: Log,
        settling: Settling,
    ) -> None:
        self._worker = worker
        self._storage = storage
        self._order = order
        self._slots = slots
        self._runner = runner
        self._row = row
        self._log = log
        self._settlement = Settlement(log)
        self.settling = settling
        self.away = AwayQueues(settling.open_storage)
        self.reconciliation = Reconciliation(worker, storage, slots, self, self.away)
        self._tells_leased = log.enabled(events.JOB_LEASED)
        self._usage = Usage(0, 0)
        self.ledger = LeaseLedger(slots.capacity)
        slots.low = self.ledger.ring_at
        self.quarantine = Quarantine()
        self.share = 2
        """A short queue is divided by this: twice the workers of this node."""
        self.ready = 0
        """Jobs that waited in the queues after the last turn."""
        self.heard_s = 0.0
        """When the storage has last spoken for all queues: of jobs that should stop."""
        self.released = 0
        self.finished = 0

    # -- the slots' side ---------------------------------------------------------------------

    def collect(self, now_s: float) -> None:
        """Take what the slots have finished."""
        outcomes = self._slots.collect()
        if outcomes:
            self.ledger.finished(outcomes, now_s)
            usage = self._slots.usage()
            self.ledger.prefetch.measured(
                usage.jobs - self._usage.jobs, usage.ran_ns - self._usage.ran_ns
            )
            self._usage = usage
            self._slots.low = self.ledger.ring_at
        if len(self.settling):
            self.ledger.followed(self.settling.take())

    @property
    def pending(self) -> int:
        """How many jobs have ended here and are not settled, and queues that may hold some of ours."""
        return self.ledger.pending + len(self.settling) + len(self.away)

    def accept(self, leases: Sequence[Lease], now_s: float) -> None:
        """Hand leased jobs to the slots."""
        if leases:
            alone = any(lease.alone for lease in leases)
            self.ledger.handed(len(leases), now_s, alone=alone)
            self._slots.offer(leases)
            if self._tells_leased:
                self._log.emit(events.JOB_LEASED, count=len(leases))

    # -- the storage's side ------------------------------------------------------------------

    def turn(self, limit: int, *, idle: bool = False) -> list[Lease]:
        """Settle what is finished and lease up to `limit` jobs; they are in the slots on return.

        With a limit of 0 it only hears what the storage has to say of the jobs that run.
        """
        self._follow_up()
        outcomes = self.ledger.sending()
        self._log.flush()
        leased = self._storage.turn(
            self._worker,
            outcomes,
            self.queues(),
            limit,
            alone=not self.ledger.in_slots,
            idle=idle,
            share=self.share,
        )
        now_s = monotonic_s()
        self._row.set(board.HEARD, round(now_s * 1e9))
        self._settled(outcomes, leased.settled)
        # law: behind an answer: who waits for a silent storage twice in a step is held to be hung
        # (test_a_silent_storage_is_waited_for_once_in_a_step).
        self._runner.keep_time(self._storage.server_ms)
        # law: orders are heeded before the jobs of the same turn can start
        # (test_standing_orders_are_heeded_before_a_job_of_the_same_turn_starts).
        self._runner.heed(leased.revocations)
        if leased.stops:
            self._slots.stop(leased.stops)
        if len(leased.leases) < limit or not limit:
            # With the limit reached, the queues after that were not asked.
            self.heard_s = now_s
        self.ready = leased.ready
        if limit:
            self.ledger.dry = not leased.leases
        self.accept(leased.leases, now_s)
        self.quarantine.seen(leased.suspects, now_s)
        return leased.leases

    def settle(self) -> None:
        """Settle what is finished."""
        self._follow_up()
        self._log.flush()
        while outcomes := self.ledger.sending():
            self._settled(outcomes, self._storage.settle(self._worker, outcomes))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Settle outcomes that the ledger has put aside."""
        if outcomes:
            took_effect = self._storage.settle(self._worker, outcomes)
            self._closed(outcomes, self._conclude(outcomes, took_effect))

    def _follow_up(self) -> None:
        """Write what the ends set off; what cannot be written now is kept, and its outcome with it."""
        ends = self.ledger.take_ends()
        if not ends:
            return
        blocked = [end for end in ends if self.settling.blocks(end)]
        if blocked:
            self.settling.keep(blocked)
            ends = [end for end in ends if not self.settling.blocks(end)]
        try:
            steps = [step for end in ends for step in end.follow_ups]
            new = follow_ups.write(self._storage, steps)
        except StorageError as error:
            self.settling.error = str(error)
            self.settling.keep(ends)
            # One that only takes nothing new settles and leases as ever.
            if not isinstance(error, QueueFull):
                raise
        else:
            self.ledger.followed(ends)
            self.settling.enqueued(new)

    def _settled(self, outcomes: Sequence[Outcome], took_effect: Sequence[bool]) -> None:
        # law: an end that did not count is offered again before it is forgotten; should the storage be
        # lost here, all is repeated (test_an_end_was_forgotten_when_the_storage_was_lost_between_its_two_offers).
        counted = self._conclude(outcomes, took_effect)
        self.ledger.answered()
        if outcomes:
            self._closed(outcomes, counted)

    def _closed(self, outcomes: Sequence[Outcome], counted: Sequence[Outcome]) -> None:
        """Nothing is left to do for these outcomes, of which some count."""
        self._slots.settled(outcomes)
        self._count(counted)

    def _conclude(self, outcomes: Sequence[Outcome], took_effect: Sequence[bool]) -> list[Outcome]:
        if not outcomes:
            return []
        counted = self._settlement.conclude(self._storage, self._worker, outcomes, took_effect)
        if fenced := len(outcomes) - len(counted):
            self._row.set_behind(board.FENCED, self._row.behind(board.FENCED) + fenced)
        return counted

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        """Post what has ended on the board."""
        self.finished += len(outcomes)
        for field, count in Counter(map(_field, outcomes)).items():
            if field is not None:
                self._row.set(field, self._row.get(field) + count)

    def release_unstarted(self) -> None:
        """Release every unstarted job; should the storage be lost now, `reconcile` finds them."""
        leases = self._slots.withdraw()
        self.ledger.withdrawn(len(leases))
        self.release(leases)

    def release_all(self, *, after_outage: bool) -> None:
        """Release every unstarted job, also what a storage that was away has handed over unheard."""
        if after_outage:
            self.reconciliation.reconcile(accepting=False)
        else:
            self.release_unstarted()

    def release(self, leases: Sequence[Lease]) -> None:
        # One whose server is away is found again by `rejoin`.
        if leases := [lease for lease in leases if lease.queue not in self.away]:
            released = self._storage.release(
                self._worker, [(lease.id, lease.queue, lease.token) for lease in leases]
            )
            self.released += sum(released)

    def queues(self) -> Sequence[str]:
        """Return those whose server is not away, in the order in which a turn asks them."""
        names = self._order.next()
        return names if not self.away else [name for name in names if name not in self.away]

    def running(self) -> list[Lease]:
        """Return exactly the leases that run now; call it when no job waits unstarted.

        A slot is for a moment between two states while it takes a job or finishes it; look until
        the numbers agree.
        """
        deadline_s = monotonic_s() + _SNAPSHOT_WAIT_S
        while True:
            self.collect(monotonic_s())
            running = self._slots.running()
            if len(running) == self.ledger.in_slots or monotonic_s() > deadline_s:
                return running
            native_threads.sleep(0.0001)

    def interrupt(self, outcomes: Sequence[Outcome]) -> None:
        """Settle what is finished, and the running jobs with these outcomes of theirs.

        A job whose end cannot be written goes back as well, with its end where that can be kept.
        """
        self.settle()
        self.ledger.followed(self.settling.take())
        self.settle()
        kept = self.settling.kept()
        for end in kept:
            self._note(end)
        back = [self._runner.interrupted(end.lease) for end in kept if end.lease is not None]
        if outcomes := [out for out in (*outcomes, *back) if out.queue not in self.away]:
            self._log.flush()
            settled = self._storage.settle(self._worker, outcomes)
            self._count(self._conclude(outcomes, settled))
        if self.away:
            raise StorageUnavailable(self.away.why)
        self._slots.settled(self.settling.give_up())

    def unsettled(self) -> list[Outcome]:
        """Return all that has ended here and is not settled."""
        ledger = self.ledger
        return [*ledger.unsettled, *ledger.set_aside, *ledger.ends, *self.settling.kept()]

    def left_running(self) -> list[Lease]:
        """Return what runs, where the storage can be told nothing; nothing is begun any more."""
        self.ledger.withdrawn(len(self._slots.withdraw()))
        return self.running()

    def _note(self, end: End) -> None:
        """Keep the end of a job with it, for who leases it next."""
        hold = LeaseKey(self._worker, end.id, end.queue, end.token)
        try:
            self._storage.note(hold, END_NOTE, encode_end(end))
        except StorageError as error:
            tell_unsettled(self._log, end, str(error))

    def burst_is_over(self, node: str, queues: Sequence[str]) -> bool:
        """Return whether the queues are empty and no worker of this node holds a job."""
        if any(row.queued for row in self._storage.queues() if row.name in queues):
            return False
        return not any(
            sum(row.workers.values()) for row in self._storage.nodes() if row.node.id == node
        )


def _field(outcome: Outcome) -> int | None:
    """Return the board's field that counts such outcomes, None for none."""
    if outcome.reason == Reason.INTERRUPTED:
        return board.INTERRUPTED
    return None if is_untold(outcome.parked) else _COUNTED_AS.get(outcome.kind)

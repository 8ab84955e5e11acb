"""After an outage: what the slots hold and what the storage has leased are made to agree.

A lost reply may have leased jobs that never arrived here; a node that was taken for dead has lost its
leases.  Running jobs go on in any case: their outcomes are fenced where the lease is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError, StorageUnavailable
from taskqd.jobs.job import Lease, Outcome
from taskqd.storage.base import Storage
from taskqd.worker.connection.away_queues import AwayQueues
from taskqd.worker.connection.outage import SILENT_S
from taskqd.worker.slots.base import Slots

from .ledger import LeaseLedger


class Client(Protocol):
    """What this needs of the worker's business with its storage."""

    ledger: LeaseLedger

    def queues(self) -> Sequence[str]: ...

    def settle(self) -> None: ...

    def tell(self, outcomes: Sequence[Outcome]) -> None: ...

    def accept(self, leases: Sequence[Lease], now_s: float) -> None: ...

    def release(self, leases: Sequence[Lease]) -> None: ...

    def running(self) -> list[Lease]: ...

    def unsettled(self) -> list[Outcome]: ...


class Reconciliation:
    """Used by the worker's loop's thread only.  Both methods may raise StorageError."""

    def __init__(
        self, worker: str, storage: Storage, slots: Slots, client: Client, away: AwayQueues
    ) -> None:
        self._worker = worker
        self._storage = storage
        self._slots = slots
        self._client = client
        self._away = away

    def reconcile(self, *, accepting: bool) -> None:
        """Agree with the storage on what this worker holds.

        Where its queues are on several servers, those that do not answer are away from now on; raises
        StorageError where none answers.
        """
        queues = self._client.queues()
        parts = [*self._storage.parts(queues), *self._away.returned()]
        if len(parts) < 2 and not self._away and not self._client.ledger.has_aside:
            # law: outcomes first.  A storage knows a repeat only of what its worker did last, and a
            # release would take their place (test_after_an_outage_outcomes_are_settled_before_a_lease_is_released).
            self._client.settle()
            self._agree(queues, accepting=accepting)
            return
        if self._reach([part for part in parts if part], accepting=accepting) == 0:
            raise StorageUnavailable(self._away.why)

    def _reach(self, parts: Sequence[Sequence[str]], *, accepting: bool) -> int:
        """Take up those whose server answers; return how many.

        law: the silent hold up one step no longer than one of them does: the others are away without
        being asked (test_several_silent_servers_hold_up_a_step_no_longer_than_one).
        """
        reached, since_s = 0, monotonic_s()
        for part in parts:
            if monotonic_s() < since_s + SILENT_S:
                reached += self._rejoin(part, accepting=accepting)
            else:
                self._put_away(part, "not asked: another server was silent")
        return reached

    def rejoin(self, *, accepting: bool) -> None:
        """Take up the queues that are back."""
        self._reach([part for part in self._away.returned() if part], accepting=accepting)

    def _rejoin(self, part: Sequence[str], *, accepting: bool) -> bool:
        """Agree with one server; False: it does not answer, and is away."""
        self._client.ledger.put_aside(part)
        try:
            for queue in part:
                self._client.tell(self._client.ledger.sent_to(queue))
                self._client.ledger.take_up(queue)
            self._away.remove(part)
            self._agree(part, accepting=accepting)
        except StorageError as error:
            self._put_away(part, str(error))
            return False
        return True

    def _put_away(self, part: Sequence[str], why: str) -> None:
        self._client.ledger.put_aside(part)
        self._away.add(part, why)

    def _agree(self, queues: Sequence[str], *, accepting: bool) -> None:
        leased = self._storage.holdings(self._worker, queues)
        current = {(lease.id, lease.token) for lease in leased}
        waiting = self._slots.withdraw()
        self._client.ledger.withdrawn(len(waiting))
        still_ours = [
            lease
            for lease in waiting
            if lease.queue not in queues or (lease.id, lease.token) in current
        ]
        known = {(lease.id, lease.token) for lease in (*still_ours, *self._client.running())}
        # law: what ended since the storage was asked is not unseen
        # (test_a_job_that_ended_while_holdings_were_asked_for_was_started_again).
        known |= {(outcome.id, outcome.token) for outcome in self._client.unsettled()}
        unseen = [lease for lease in leased if (lease.id, lease.token) not in known]
        if accepting:
            self._client.accept([*still_ours, *unseen], monotonic_s())
        else:
            self._client.release([*still_ours, *unseen])

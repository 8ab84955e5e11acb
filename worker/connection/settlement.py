"""What a settlement came to: which ends count after all, and what is logged of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from operator import not_

from taskqd.jobs.end import lines_of
from taskqd.jobs.job import Outcome
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage

_ENDS = ("ack", "bury", "cancel")


class Settlement:
    """Used by whoever settles outcomes, behind each call."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def conclude(
        self,
        storage: Storage,
        worker: str,
        outcomes: Sequence[Outcome],
        took_effect: Sequence[bool],
    ) -> list[Outcome]:
        """Log what became of these outcomes; return those that count.

        Ends that were refused are offered once more.  Raises StorageError, and then nothing is
        logged: all is to be settled again.
        """
        counted = _with_late(storage, worker, outcomes, took_effect)
        effective = list(compress(outcomes, counted))
        # law: an end is logged as what it turned out to be: one that was refused is never told as
        # done (test_a_fenced_end_was_logged_as_done_first).
        for outcome in effective:
            for event, facts in lines_of(outcome):
                self._log.emit_soon(event, facts)
        if len(effective) < len(outcomes):
            self._tell_fenced(compress(outcomes, map(not_, counted)))
        self._log.flush()
        return effective

    def _tell_fenced(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            facts = {"job_id": outcome.id, "queue": outcome.queue, "end": outcome.kind}
            self._log.emit(events.JOB_FENCED, **facts)


def _with_late(
    storage: Storage, worker: str, outcomes: Sequence[Outcome], took_effect: Sequence[bool]
) -> Sequence[bool]:
    """Offer once more the ends that were refused; return for each outcome whether it counts."""
    if all(took_effect):
        return took_effect
    late = [
        number
        for number, took in enumerate(took_effect)
        # One that is only parked was no end: whoever leases the job next may know it.
        if not took and outcomes[number].kind in _ENDS and not outcomes[number].parked
    ]
    counts = storage.settle_late(worker, [outcomes[number] for number in late]) if late else []
    saved = {number for number, counts_late in zip(late, counts, strict=True) if counts_late}
    return [took or number in saved for number, took in enumerate(took_effect)]


def tell_unsettled(log: Log, end: Outcome, error: str) -> None:
    """Log that nobody will know of this end: the job runs again, or is given up as lost."""
    facts = {"job_id": end.id, "queue": end.queue, "end": end.kind}
    log.emit(events.JOB_UNSETTLED, **facts, error=error)

"""The lines of jobs that have ended, as the storage has taken their ends."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.jobs.end import lines_of
from taskqd.jobs.job import Outcome
from taskqd.logs import events
from taskqd.logs.setup import Log


class SettledLines:
    """Writes them in the same breath in which the storage has answered."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, outcomes: Sequence[Outcome], took_effect: Sequence[bool]) -> list[Outcome]:
        """Log what became of these; return those that took effect.

        law: an end is logged as what it turned out to be: one that was refused is never told as
        done (test_a_fenced_end_was_logged_as_done_first).
        """
        effective = []
        for outcome, took in zip(outcomes, took_effect, strict=True):
            if not took:
                self._log.emit(
                    events.JOB_FENCED, job_id=outcome.id, queue=outcome.queue, end=outcome.kind
                )
                continue
            effective.append(outcome)
            for event, facts in lines_of(outcome):
                self._log.emit_soon(event, facts)
        self._log.flush()
        return effective

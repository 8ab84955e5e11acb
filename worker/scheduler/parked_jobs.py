"""Parked letters: they go back when this app knows their task, or are given up; see `taskqd.jobs.parked`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from taskqd.errors import DecodeError, SignatureError
from taskqd.execution import follow_ups
from taskqd.execution.continuations import after_failure
from taskqd.execution.protocols import AppLike, JobView
from taskqd.execution.unpacking import unpack
from taskqd.jobs import parked
from taskqd.jobs.job import NO_MARKS, Answer, BadRecord, Failure, Reason
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage
from taskqd.storage.features import Letter, Parked

LOOK_S = 2.0
"""An older daemon beside this one may park a job again: it goes to and fro no faster than this."""
LETTERS_MAX = 1000


class ParkedJobs:
    """Dead letters of tasks that no daemon knew when they were to run.  Of the chores' thread only."""

    def __init__(
        self, app: AppLike, patience_s: float, tell: Callable[[str, JobView], None]
    ) -> None:
        self._app = app
        self._patience_s = patience_s
        self._tell = tell

    def look(self, storage: Storage, queues: Sequence[str], log: Log) -> float:
        """Deal with what is parked; return after how many seconds to look again.

        Raises StorageError; what was not done then is done next time.
        """
        for row in storage.parked(queues):
            if parked.name_in(row.label) in self._app.registry:
                self._unpark(row, storage, log)
            elif parked.is_held(row.label) and row.oldest_s > self._patience_s:
                self._give_up(row, storage)
        return LOOK_S * random.uniform(0.75, 1.25)

    def _unpark(self, row: Parked, storage: Storage, log: Log) -> None:
        name = parked.name_in(row.label)
        job_ids = storage.unpark(row.queue, row.label, LETTERS_MAX)
        log.emit(events.JOB_RETURNED, task=name, queue=row.queue, count=len(job_ids))
        for job_id in job_ids:
            self._tell("requeued", JobView(job_id, name, row.queue, NO_MARKS, "returned"))

    def _give_up(self, row: Parked, storage: Storage) -> None:
        """Set off what follows a job that nobody has come for.

        law: first that, then off the list.  Should this process die in between, it is done again,
        under the same ids (test_a_letter_is_left_dead_only_after_its_followers_are_told).
        """
        letters = storage.parked_letters(row.queue, row.label, LETTERS_MAX)
        late = [letter for letter in letters if letter.waited_s > self._patience_s]
        for letter in late:
            self._tell_followers(row, letter)
        storage.leave_dead(row.queue, [letter.id for letter in late])

    def _tell_followers(self, row: Parked, letter: Letter) -> None:
        try:
            marks, envelope = msgspec.structs.astuple(
                unpack(
                    letter.record,
                    namespace=self._app.name,
                    queue=row.queue,
                    job_id=letter.id,
                    signer=self._app.signer,
                )
            )
        except (BadRecord, DecodeError, SignatureError):
            return  # It was changed since it was parked: nothing in it can be trusted.
        failure = Failure("", marks.error)
        now, ttl_s = self._app.clock.now_ms(), self._app.result_ttl
        answer = Answer("dead", 0, now, ttl_s, reason=Reason.UNKNOWN_TASK, failure=failure)
        follow_ups.deliver(
            self._app.storage, self._app.listeners, after_failure(self._app, envelope, answer)
        )

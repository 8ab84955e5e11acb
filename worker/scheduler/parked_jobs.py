"""Parked letters: workers lease those whose task this app knows, or they are given up; see `taskqd.jobs.parked`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from taskqd.client.delivery import EnqueuedJob, tell_enqueued
from taskqd.errors import DecodeError, SignatureError
from taskqd.execution import follow_ups
from taskqd.execution.continuations import after_failure
from taskqd.execution.protocols import AppLike, JobView
from taskqd.execution.unpacking import unpack
from taskqd.jobs import parked
from taskqd.jobs.job import Answer, BadRecord, Failure, Reason
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.storage.base import Storage
from taskqd.storage.features import Letter, Parked
from taskqd.storage.rules import marks_of

LOOK_S = 2.0
"""Between two looks where nothing rings.  A node whose own workers are of two generations may park what it
leases: it goes to and fro no faster than this."""
LETTERS_MAX = 1000


class ParkedJobs:
    """Dead letters of tasks that no daemon knew when they were to run.  Of the chores' thread only."""

    def __init__(
        self, app: AppLike, patience_s: float, tell: Callable[[str, JobView | EnqueuedJob], None]
    ) -> None:
        self._app = app
        self._patience_s = patience_s
        self._tell = tell

    def look(self, storage: Storage, node: str, queues: Sequence[str], log: Log) -> float:
        """Deal with what is parked; return after how many seconds to look again.

        `node`: whose workers are to lease what this app knows.

        Raises StorageError; what was not done then is done next time.
        """
        for row in storage.parked(queues):
            if parked.name_in(row.label) in self._app.registry:
                if storage.know(node, row.queue, row.label):
                    name = parked.name_in(row.label)
                    log.emit(events.JOB_RETURNED, task=name, queue=row.queue, count=row.letters)
            elif row.oldest_s > self._patience_s and parked.is_untold(row.label):
                self._give_up(row, storage, log)
        return LOOK_S * random.uniform(0.75, 1.25)

    def _give_up(self, row: Parked, storage: Storage, log: Log) -> None:
        """Tell of jobs that nobody has come for that they are dead, and set off what follows them.

        law: first what follows, then off the list.  Should this process die in between, it is done
        again, under the same ids (test_a_letter_is_left_dead_only_after_its_followers_are_told).
        """
        letters = storage.parked_letters(row.queue, row.label, LETTERS_MAX)
        late = {letter.id: letter for letter in letters if letter.waited_s > self._patience_s}
        held = parked.is_held(row.label)
        if held:
            for letter in late.values():
                self._tell_followers(row, letter, storage)
        label = "" if held else parked.told(row.label)
        # law: whoever takes a letter off its label tells that it is dead, so it is told once
        # (test_a_job_that_nobody_knows_is_told_dead_once).
        for job_id in storage.relabel(row.queue, list(late), label):
            self._tell_dead(row, late[job_id], log)

    def _tell_dead(self, row: Parked, letter: Letter, log: Log) -> None:
        name, marks = parked.name_in(row.label), marks_of(letter.record)
        log.emit(
            events.JOB_DEAD,
            job_id=letter.id,
            task=name,
            queue=row.queue,
            attempt=marks.attempts,
            reason=str(Reason.UNKNOWN_TASK),
            error=marks.error,
        )
        self._tell("dead", JobView(letter.id, name, row.queue, marks, str(Reason.UNKNOWN_TASK)))

    def _tell_followers(self, row: Parked, letter: Letter, storage: Storage) -> None:
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
        for entry in follow_ups.write(storage, after_failure(self._app, envelope, answer)):
            tell_enqueued(self._app.listeners, entry, "", tell=self._tell)

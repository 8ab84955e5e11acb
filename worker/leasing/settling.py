"""Ends that were reached and cannot be written yet: kept, and tried again for as long as the worker lives.

What follows a job (the next stage, a group's count) may have to go to a queue that takes nothing
now: a storage at its maxmemory, a full disk, a server that is away.  The job has ended all the same.
Its end stays here, its follow-ups are written by a thread of its own, which may wait for a silent
server as long as it likes, and then the worker's loop settles the outcome.

law: the body is never run again for that, as long as this worker lives
(test_a_finished_stage_ran_again_each_second_while_what_follows_could_not_be_written).
law: memory is bounded: a worker that keeps too much leases no more
(test_a_worker_with_many_unwritten_ends_leases_no_more).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from taskqd.errors import StorageError
from taskqd.execution import follow_ups
from taskqd.jobs.end import END_NOTE, End, encode_end
from taskqd.jobs.job import Entry
from taskqd.storage.base import Storage
from taskqd.storage.features import LeaseKey
from taskqd.worker.connection.outage import Backoff
from taskqd.worker.host import native_threads, syscalls
from taskqd.worker.host.event_queue import EventQueue

KEPT_MAX = 256
KEPT_BYTES_MAX = 8 * 1024 * 1024
"""With as many ends kept, or as much, nothing more is leased."""


class Settling:
    """What one worker keeps.  All methods but `_run` are the worker's loop's."""

    def __init__(
        self,
        worker: str,
        open_storage: Callable[[], Storage],
        enqueued: Callable[[Sequence[Entry]], None],
    ) -> None:
        """`open_storage`: makes a connection for the thread; `enqueued` is told of new jobs."""
        self._worker = worker
        self.open_storage = open_storage
        self.enqueued = enqueued
        self._kept: dict[int, End] = {}
        """By token; of the worker's loop."""
        self._queues: Counter[str] = Counter()
        """Queues to which something is to be written, and by how many steps."""
        self._bytes = 0
        self._todo: EventQueue[End] = EventQueue()
        self._written: EventQueue[End] = EventQueue()
        self._wanted = native_threads.NativeEvent()
        self._runs = False
        self.error = ""
        """Why the latest could not be written."""

    def fileno(self) -> int:
        """Return an eventfd that is written to when ends were written.  Watch it edge-triggered."""
        return self._written.fileno()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> bool:
        return len(self._kept) >= KEPT_MAX or self._bytes >= KEPT_BYTES_MAX

    def blocks(self, end: End) -> bool:
        """Return whether something waits for a queue that this one has to be written to as well."""
        return bool(self._queues) and any(step.queue in self._queues for step in end.follow_ups)

    def keep(self, ends: Sequence[End]) -> None:
        for end in ends:
            self._kept[end.token] = end
            self._queues.update(step.queue for step in end.follow_ups)
            self._bytes += end.size_bytes
            self._todo.append(end)
        if ends and not self._runs:
            self._runs = True
            native_threads.Thread(lambda: syscalls.vital(self._run)).start()
        self._wanted.set()

    def take(self) -> list[End]:
        """Return those whose follow-ups have been written since the last call."""
        return [end for end in self._written.take() if self._drop(end)]

    def kept(self) -> list[End]:
        """Return all that is kept."""
        return list(self._kept.values())

    def give_up(self) -> list[End]:
        """Return all that is kept; it is the caller's now."""
        kept = self.kept()
        self._kept.clear()
        self._queues.clear()
        self._bytes = 0
        return kept

    def _drop(self, end: End) -> bool:
        if self._kept.pop(end.token, None) is None:
            return False
        self._queues -= Counter(step.queue for step in end.follow_ups)
        self._bytes -= end.size_bytes
        return True

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        """Write what is kept, again and again."""
        writer = Writer(self._worker, self.open_storage, self.enqueued)
        waiting: list[End] = []
        backoff = Backoff(random.uniform)
        while True:
            self._wanted.wait(backoff.next_s() if waiting else None)
            self._wanted.clear()
            waiting += self._todo.take()
            waiting = [end for end in waiting if end.token in self._kept]
            before = len(waiting)
            waiting = writer.round(waiting, self._written.put)
            self.error = writer.error
            if len(waiting) < before:
                backoff.reset()


class Writer:
    """Writes the follow-ups of kept ends over a connection of its own."""

    def __init__(
        self,
        worker: str,
        open_storage: Callable[[], Storage],
        enqueued: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._worker = worker
        self._open_storage = open_storage
        self._enqueued = enqueued
        self._storage: Storage | None = None
        self._noted: set[int] = set()
        """Tokens of ends that are kept with their jobs as well."""
        self.error = ""

    def round(self, ends: Sequence[End], written: Callable[[End], None]) -> list[End]:
        """Try each once; return those that could not be written.

        Of a queue that has failed nothing more is asked: one that is silent costs a wait.
        """
        failed: set[str] = set()
        left: list[End] = []
        for end in ends:
            if not failed.isdisjoint(step.queue for step in end.follow_ups):
                left.append(end)
                continue
            try:
                storage = self._storage = self._storage or self._open_storage()
                new = follow_ups.write(storage, end.follow_ups)
            except StorageError as error:
                self.error = str(error)
                failed |= {step.queue for step in end.follow_ups}
                left.append(end)
            else:
                self._noted.discard(end.token)
                written(end)
                self._enqueued(new)
        silent: set[str] = set()
        for end in left:
            if end.token not in self._noted and end.queue not in silent:
                self._note(end, silent)
        return left

    def _note(self, end: End, silent: set[str]) -> None:
        """Keep it with its job too, where that can be written: it outlives this worker there."""
        if self._storage is None:
            return
        hold = LeaseKey(self._worker, end.id, end.queue, end.token)
        try:
            self._storage.note(hold, END_NOTE, encode_end(end))
        except StorageError:
            silent.add(end.queue)
        else:
            self._noted.add(end.token)

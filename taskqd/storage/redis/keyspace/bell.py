"""Bells: an idle worker sleeps in a blocking read, and the job comes with the ring.

A worker that found nothing is on the idle list of each of its queues; whoever has a job for it
puts the job into its inbox, and into its holdings, in one script.  The bell's own connections wait
for the inboxes by BLPOP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError
from taskqd.ids import new_id
from taskqd.jobs.job import Lease
from taskqd.storage.redis.keyspace.base import Base
from taskqd.storage.redis.link.blocking_reads import BlockingReads
from taskqd.storage.redis.link.connection import BLOCK_S, SILENT_S

TIMER_MS = 30_000
ASK_S = 5.0
"""A worker asks for jobs at least so often, the net under a registration that was lost."""


class RedisBell:
    """The bell of one worker.  Shares the storage's command connection with its owner."""

    poll_s = BLOCK_S + SILENT_S

    def __init__(self, core: Base, worker: str, queues: Sequence[str]) -> None:
        self._core = core
        self._worker = worker
        self.is_closed = False
        self._asked_s = 0.0
        self._queue_of = {core.at(queue).inbox(worker): queue for queue in queues}
        self._reads = BlockingReads(core._link, list(self._queue_of))
        self._listed: dict[str, bool] = {}
        """Queues on whose idle list the worker is, unless it was rung since.  True: it was rung
        once, unread yet, and then listed again."""

    def fileno(self) -> int:
        return self._reads.fileno()

    def arm(self) -> None:
        self.listen()

    def listen(self) -> None:
        self._asked_s = monotonic_s()
        self._reads.listen(drop=not self._listed)

    def note(self, queue: str, registered: int) -> None:
        """Take note of what a turn says of the queue's idle list (see turn.lua)."""
        if registered == 1:
            self._listed[queue] = queue in self._listed
        elif registered == 2:
            # Also where a command that was given up has put it there, and nobody knew.
            self._listed.setdefault(queue, False)
        elif registered == -1 and not self._listed.get(queue, True):
            del self._listed[queue]

    def answer(self) -> list[Lease] | None:
        if not self._reads.waiting:
            return []
        leases: list[Lease] = []
        taken = self._reads.take()
        if not taken and self._listed and monotonic_s() - self._asked_s < ASK_S:
            self._reads.listen()
            return None
        for inbox, element in taken:
            queue = self._queue_of[inbox]
            if not self._listed.get(queue, True):
                del self._listed[queue]
            leases += _leases(queue, [element])
        return leases + self.disarm()

    def disarm(self) -> list[Lease]:
        listed, self._listed = self._listed, {}
        if not listed:
            return []
        calls = [("disarm", queue, [self._worker, how]) for queue, how in self._waits(listed)]
        replies = self._core.run_all(calls)
        leases, rung = [], []
        for (_, queue, _), (is_rung, *elements) in zip(calls, replies, strict=True):
            leases += _leases(queue, elements)
            rung += [queue] if is_rung else []
        return leases + (self._take_rung(rung) if rung else [])

    def _waits(self, listed: dict[str, bool]) -> list[tuple[str, str]]:
        """Return, for each queue, what disarm.lua is to know of the blocking read on its inbox."""
        found = []
        for waiting, inboxes in self._reads.together():
            queues = [q for q in map(self._queue_of.__getitem__, inboxes) if q in listed]
            how = "0" if not waiting else "2" if any(listed[q] for q in queues) else "1"
            found += [(queue, how) for queue in queues]
        return sorted(found)

    def _take_rung(self, queues: list[str]) -> list[Lease]:
        """Collect what the blocking reads got, and what was pushed only to end them."""
        inboxes = [self._core.at(queue).inbox(self._worker) for queue in queues]
        taken = self._reads.take_from(inboxes)
        self._core._link.pipeline([("DEL", inbox) for inbox in inboxes])
        return [lease for name, got in taken for lease in _leases(self._queue_of[name], [got])]

    def reset(self) -> None:
        """Forget what is under way; the storage's holdings tell all of it."""
        self._reads.close()
        self._listed.clear()

    def close(self) -> None:
        self.is_closed = True
        # What was handed over stays in the holdings; recovery takes it back if nobody else does.
        with contextlib.suppress(StorageError):
            for lease in self.disarm() if self._core._link.is_connected else ():
                self._core.run("release", lease.queue, [self._worker, "", lease.id, lease.token])
        self._reads.end()


class TimerBell:
    """The bell of a sleeping scheduler."""

    poll_s = 2 * ASK_S

    def __init__(self, core: Base, queues: Sequence[str]) -> None:
        self._core = core
        self._queues = list(queues)
        self._timer = new_id()
        self._reads = BlockingReads(core._link, [core.at(q).alarm(self._timer) for q in queues])

    def fileno(self) -> int:
        return self._reads.fileno()

    def arm(self) -> None:
        self._reads.listen(drop=True)
        self._core.run_each("set_timer", self._queues, [self._timer, TIMER_MS])

    def answer(self) -> list[Lease] | None:
        if not self._reads.waiting or self._reads.take():
            return []
        self._reads.listen()
        return None

    def disarm(self) -> list[Lease]:
        """A ring that is under way comes all the same, at the next `arm`."""
        return []

    def close(self) -> None:
        self._reads.end()
        if self._core._link.is_connected:
            commands: list[Any] = [
                ("ZREM", self._core.at(queue)["timers"], self._timer) for queue in self._queues
            ]
            with contextlib.suppress(StorageError):
                self._core._link.pipeline(commands)


def _leases(queue: str, elements: Sequence[bytes]) -> list[Lease]:
    """Decode "id token LF record"; an empty element means: ask now."""
    leases = []
    for element in filter(None, elements):
        head, _, record = element.partition(b"\n")
        job_id, token = head.decode().split(" ")
        leases.append(Lease(job_id, queue, int(token), record))
    return leases

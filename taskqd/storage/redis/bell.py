"""Bells: an idle worker sleeps in a blocking read, and the job comes with the ring.

A worker that found nothing is on the idle list of each of its queues; whoever has a job for it
puts the job into its inbox, and into its holdings, in one script.  The bell's own connection waits
for the inboxes by BLPOP.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import StorageError, StorageUnavailable
from taskqd.ids import new_id
from taskqd.job import Lease
from taskqd.storage.redis.connection import CALL_S, Link
from taskqd.storage.redis.core import Core
from taskqd.storage.redis.faults import translate

BLOCK_S = 5
"""One blocking read; the connection allows it CALL_S more."""
TIMER_MS = 30_000


class Listener:
    """A connection that waits for one of several lists to get an element."""

    def __init__(self, url: str, lists: Sequence[str]) -> None:
        self._link = Link(url, timeout_s=BLOCK_S + CALL_S)
        self._command = ("BLPOP", *lists, BLOCK_S)
        self._sent_s = 0.0
        self.waiting = False

    def listen(self, *, drop: bool = False) -> None:
        """Begin to wait, unless under way.  `drop`: how an earlier wait ended does not matter."""
        if self.waiting and drop and self._link.is_readable():
            with contextlib.suppress(StorageUnavailable):  # it is closed then, and opened below
                self.take()
        if self.waiting:
            if monotonic_s() - self._sent_s > BLOCK_S + CALL_S and not self._link.is_readable():
                self.close()
                # law: what that wait was given is in the holdings, and only there.
                raise StorageUnavailable(f"{self._link.where}: a blocking read never ended")
            return
        self._link.send([self._command])
        self._sent_s = monotonic_s()
        self.waiting = True

    def take(self) -> tuple[str, bytes] | None:
        """Return (list, element) that the wait ended with; None: it ended without any."""
        self.waiting = False
        reply = self._link.read()
        if isinstance(reply, RedisError):
            self.close()
            raise translate(reply, self._link.where, unknown=False)
        return None if reply is None else (reply[0].decode(), reply[1])

    def fileno(self) -> int:
        return self._link.fileno() if self.waiting else -1

    def close(self) -> None:
        self._link.close()
        self.waiting = False


class RedisBell:
    """The bell of one worker.  Shares the storage's command connection with its owner."""

    poll_s = BLOCK_S + CALL_S

    def __init__(self, core: Core, worker: str, queues: Sequence[str]) -> None:
        self._core = core
        self._worker = worker
        self.is_closed = False
        self._queue_of = {core.at(queue).inbox(worker): queue for queue in queues}
        self._listener = Listener(core._url, list(self._queue_of))
        self._listed: dict[str, bool] = {}
        """Queues on whose idle list the worker is, unless it was rung since.  True: it was rung
        once, unread yet, and then listed again."""

    def fileno(self) -> int:
        return self._listener.fileno()

    def arm(self) -> None:
        self.listen()

    def listen(self) -> None:
        self._listener.listen(drop=not self._listed)

    def note(self, queue: str, registered: int) -> None:
        """Take note of what a turn says of the queue's idle list (see turn.lua)."""
        if registered == 1:
            self._listed[queue] = queue in self._listed
        elif registered == 2:
            # Also where a command that was given up has put it there, and nobody knew.
            self._listed.setdefault(queue, False)
        elif registered == -1 and not self._listed.get(queue, True):
            del self._listed[queue]

    def answer(self) -> list[Lease]:
        if not self._listener.waiting:
            return []
        ring = self._listener.take()
        if ring is None:
            return self.disarm()
        queue = self._queue_of[ring[0]]
        if not self._listed.get(queue, True):
            del self._listed[queue]
        return [*_leases(queue, [ring[1]]), *self.disarm()]

    def disarm(self) -> list[Lease]:
        queues, unread = sorted(self._listed), any(self._listed.values())
        self._listed = {}
        if not queues:
            return []
        waiting = ("2" if unread else "1") if self._listener.waiting else "0"
        replies = self._core.run_each("disarm", queues, [self._worker, waiting])
        leases = [
            lease
            for queue, (_, *elements) in zip(queues, replies, strict=True)
            for lease in _leases(queue, elements)
        ]
        rung = [queue for queue, reply in zip(queues, replies, strict=True) if reply[0]]
        return leases + (self._take_rung(rung) if rung else [])

    def _take_rung(self, queues: list[str]) -> list[Lease]:
        """Collect what the blocking read got, and what was pushed only to end it."""
        ring = self._listener.take()
        inboxes = [self._core.at(queue).inbox(self._worker) for queue in queues]
        self._core._link.call("DEL", *inboxes)
        return _leases(self._queue_of[ring[0]], [ring[1]]) if ring else []

    def reset(self) -> None:
        """Forget what is under way; the storage's holdings tell all of it."""
        self._listener.close()
        self._listed.clear()

    def close(self) -> None:
        self.is_closed = True
        # What was handed over stays in the holdings; recovery takes it back if nobody else does.
        with contextlib.suppress(StorageError):
            for lease in self.disarm() if self._core._link.is_connected else ():
                self._core.run("release", lease.queue, [self._worker, lease.id, lease.token])
        self._listener.close()


class TimerBell:
    """The bell of a sleeping scheduler; it rings at the latest when its blocking read ends."""

    poll_s = BLOCK_S + CALL_S

    def __init__(self, core: Core, queues: Sequence[str]) -> None:
        self._core = core
        self._queues = list(queues)
        self._timer = new_id()
        self._listener = Listener(core._url, [core.at(q).alarm(self._timer) for q in queues])

    def fileno(self) -> int:
        return self._listener.fileno()

    def arm(self) -> None:
        self._listener.listen(drop=True)
        self._core.run_each("set_timer", self._queues, [self._timer, TIMER_MS])

    def answer(self) -> list[Lease]:
        if self._listener.waiting:
            self._listener.take()
        return []

    def disarm(self) -> list[Lease]:
        """A ring that is under way comes all the same, at the next `arm`."""
        return []

    def close(self) -> None:
        self._listener.close()
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

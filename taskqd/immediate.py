"""Immediate mode: what is enqueued runs at once in the caller's thread, by the same path as in a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from taskqd.errors import StorageError
from taskqd.execution import follow_ups
from taskqd.execution.protocols import AppLike
from taskqd.execution.runner import Runner
from taskqd.ids import new_id
from taskqd.jobs.end import END_NOTE, End, encode_end, follow_ups_of
from taskqd.jobs.job import Outcome
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, Storage
from taskqd.storage.features import LeaseKey

_LEASE_S = 10 * 365 * 86400.0


class ImmediateApp(AppLike, Protocol):
    @property
    def storage(self) -> Storage: ...

    @property
    def queues(self) -> tuple[str, ...]: ...

    @property
    def limits(self) -> LimitSettings: ...


class CallersSlot:
    """The caller's thread as a slot."""

    stopping = False
    revoked = False
    stops_plain_code = False
    end_fork = None

    def __init__(self, worker: str = "immediate.1") -> None:
        self.worker = worker
        self._runner: asyncio.Runner | None = None

    def seconds_left(self) -> float:
        return float("inf")

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None:
        pass

    def end(self) -> None:
        pass

    def limit(self, seconds: float, message: str) -> None:
        """Nobody stops what the caller runs in its own thread; `check` does."""

    async def watched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await coroutine

    @property
    def async_runner(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


class CallersWorker:
    """The caller's thread as a worker: one job at a time, of all queues that hold any."""

    def __init__(self, app: ImmediateApp) -> None:
        self._app = app
        # A job may run others while it runs: each call is a worker of its own.
        self._node = Node(f"immediate-{new_id()}")
        self._worker = f"{self._node.id}.1"
        self._queues: list[str] = []
        # No other worker will ever come: callers of an unknown task are told at once.
        limits = msgspec.structs.replace(app.limits, unknown_patience_s=0.0)
        self._runner = Runner(app, limits, configure(role="immediate", level="critical"))
        self._slot = CallersSlot(self._worker)
        self._ended: list[Outcome] = []
        """At most one, whose end could not be written."""

    def run_one(self) -> bool:
        """Run the next queued job.  False: there is none.

        Raises StorageError, also where what follows a job cannot be written: call it again.
        """
        self._settle()
        storage = self._app.storage
        if not self._queues and not self._find_queues():
            return False
        leased = storage.lease(self._worker, self._queues, 1, alone=True)
        if not leased.leases and self._find_queues():
            leased = storage.lease(self._worker, self._queues, 1, alone=True)
        self._runner.heed(leased.revocations)
        for lease in leased.leases:
            self._ended.append(self._runner.run(lease, self._slot))
            self._settle()
        return bool(leased.leases)

    def _settle(self) -> None:
        """Write how the jobs have ended, and first what follows them.

        Raises StorageError; they are kept then, and written at the next call.
        """
        storage = self._app.storage
        while self._ended:
            [end] = self._ended
            follow_ups.deliver(storage, self._app.listeners, follow_ups_of(end))
            storage.settle(self._worker, [end])
            self._ended.clear()

    def _give_back(self) -> None:
        """Give a job back whose end cannot be written, with its end: it does not run again."""
        for end in self._ended:
            if isinstance(end, End) and end.lease is not None:
                hold = LeaseKey(self._worker, end.id, end.queue, end.token)
                self._app.features.note(hold, END_NOTE, encode_end(end))
                self._app.storage.settle(self._worker, [self._runner.interrupted(end.lease)])

    def _find_queues(self) -> bool:
        """Look for queues that are not served yet: a job may have been the first of its queue."""
        found = {row.name for row in self._app.storage.queues()} - {*self._queues}
        if found:
            self._queues += sorted(found)
            self._app.storage.register(self._node, self._queues, _LEASE_S)
        return bool(found)

    def close(self) -> None:
        self._slot.close()
        with contextlib.suppress(StorageError):
            self._give_back()
        if self._queues:
            self._app.storage.retire(self._node.id, self._queues)


def run_queued(app: ImmediateApp) -> int:
    """Run every queued job, those that they enqueue too; returns how many.  Delayed ones stay."""
    worker = CallersWorker(app)
    count = 0
    try:
        while worker.run_one():
            count += 1
    finally:
        worker.close()
    return count

"""Immediate mode: what is enqueued runs at once in the caller's thread, by the same path as in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from taskqd.execute import Runner
from taskqd.log import configure
from taskqd.registry import AppLike
from taskqd.settings import LimitSettings
from taskqd.storage.base import Node, Storage

_NODE = Node("immediate")
_WORKER = "immediate.1"
_LEASE_S = 10 * 365 * 86400.0


class ImmediateApp(AppLike, Protocol):
    @property
    def storage(self) -> Storage: ...

    @property
    def queues(self) -> tuple[str, ...]: ...

    @property
    def limits(self) -> LimitSettings: ...


class CallersPlace:
    """The caller's thread as a slot."""

    stopping = False
    revoked = False
    worker = _WORKER

    def __init__(self) -> None:
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


def run_queued(app: ImmediateApp) -> int:
    """Run every queued job, those that they enqueue too; returns how many.  Delayed ones stay."""
    storage = app.storage
    queues = [row.name for row in storage.queues()]
    storage.register(_NODE, queues, _LEASE_S)
    # No other worker will ever come: callers of an unknown task are told at once.
    limits = msgspec.structs.replace(app.limits, unknown_patience_s=0.0)
    runner = Runner(app, limits, configure(role="immediate", level="critical"))
    place = CallersPlace()
    count = 0
    try:
        while (leased := storage.lease(_WORKER, queues, 1)).leases:
            runner.heed(leased.revocations)
            for lease in leased.leases:
                storage.settle(_WORKER, [runner.run(lease, place)])
                count += 1
    finally:
        place.close()
    return count

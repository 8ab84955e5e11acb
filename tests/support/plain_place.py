"""A slot without a worker, for what runs jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class PlainPlace:
    """A slot that records what the runner tells it."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended = 0
        self.stopping = False
        self.revoked = False
        self.stops_plain_code = False
        self.limits: list[tuple[float, str]] = []
        self.worker = ""
        self._runner: asyncio.Runner | None = None

    def seconds_left(self) -> float:
        return 3.0 if self.stopping else float("inf")

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None:
        self.began.append(task)

    def end(self) -> None:
        self.ended += 1

    def limit(self, seconds: float, message: str) -> None:
        self.limits.append((seconds, message))

    async def watched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return await coroutine

    @property
    def async_runner(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

"""A slot without a worker, for what runs jobs."""

from __future__ import annotations

from taskqd.immediate import CallersSlot


class PlainPlace(CallersSlot):
    """A slot that records what the runner tells it."""

    def __init__(self) -> None:
        super().__init__(worker="")
        self.began: list[str] = []
        self.ended = 0
        self.limits: list[tuple[float, str]] = []

    def seconds_left(self) -> float:
        return 3.0 if self.stopping else float("inf")

    def begin(self, token: int, job_id: str, task: str, timeout_s: float | None) -> None:
        self.began.append(task)

    def end(self) -> None:
        self.ended += 1

    def limit(self, seconds: float, message: str) -> None:
        self.limits.append((seconds, message))

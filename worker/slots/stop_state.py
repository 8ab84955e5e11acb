"""The state of a worker's stop as its jobs see it: whether it stops, and until when they have time."""

from __future__ import annotations

import math

from taskqd.clock import monotonic_s

from .timer import Timer


class StopState:
    """Written by the worker's loop, read by jobs in any thread."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.stopping = False
        self.deadline_s = math.inf
        """On the monotonic clock."""
        self.timer = Timer()
        """Stops single jobs."""

    def begin(self, grace_s: float) -> None:
        """Say that jobs have `grace_s` left.  A shorter grace overrides a longer one."""
        self.deadline_s = min(self.deadline_s, monotonic_s() + grace_s)
        self.stopping = True

    def seconds_left(self) -> float:
        return max(0.0, self.deadline_s - monotonic_s())

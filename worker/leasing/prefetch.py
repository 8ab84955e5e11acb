"""How many jobs a worker takes beyond those that its slots can start now.  Pure.

Reading ahead hides the round trip to the storage behind work; it must never hold a job back that
another worker could start.  So it is bounded by a few milliseconds of measured work, grows slowly
and falls at once.
"""

from __future__ import annotations

AHEAD_MAX = 128
"""Two batches: one to run while the other is fetched."""
TARGET_NS = 5_000_000
"""Work to have in stock."""
SLICE_NS = 10_000_000
"""No job finished for so long while others wait unstarted: they are given back."""
_WEIGHT = 0.5
"""Of the newest measurement in the moving mean."""


class Prefetch:
    """The stock of one worker with `capacity` slots."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._mean_ns = 0.0
        self.ahead = 0
        """Jobs to hold beyond the slots."""

    def measured(self, jobs: int, ran_ns: int) -> None:
        """Learn that `jobs` jobs took `ran_ns` together."""
        if jobs <= 0:
            return
        newest = ran_ns / jobs
        self._mean_ns += (newest - self._mean_ns) * (_WEIGHT if self._mean_ns else 1.0)
        self.ahead = min(self._target(), max(1, 2 * self.ahead))

    def _target(self) -> int:
        return min(AHEAD_MAX, int(TARGET_NS * self._capacity / max(self._mean_ns, 1.0) + 0.5))

    def stalled(self) -> None:
        """Learn that the jobs in the slots outlast their slice: hold nothing beyond the slots."""
        self.ahead = 0

    @property
    def low(self) -> int:
        """Unstarted jobs at which a slot wakes the worker's loop."""
        return self.ahead // 2

    def limit(self, held: int) -> int:
        """Return how many jobs to ask for when the slots hold `held` (running and unstarted)."""
        return max(0, self._capacity + self.ahead - held)

    def worth_asking(self, held: int) -> bool:
        """Return whether the stock is so low that a round trip for more pays."""
        return held <= self._capacity + self.low

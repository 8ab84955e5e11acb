"""When a worker runs empty so that it can take a suspect.  Pure.

A suspect is a job that may have killed a worker; it runs alone.  A worker with several slots has
to stop leasing for that, and must not do so for ever because one of its jobs is long.
"""

from __future__ import annotations

PATIENCE_S = 2.0
PATIENCE_S_MAX = 60.0


class Quarantine:
    """Decides, from the number of waiting suspects, whether to stop leasing for a while."""

    def __init__(self) -> None:
        self._patience_s = PATIENCE_S
        self._until_s = 0.0
        self._rest_until_s = 0.0

    def seen(self, suspects: int, now_s: float) -> None:
        """Learn how many suspects wait."""
        if not suspects:
            self._patience_s = PATIENCE_S
            self._until_s = self._rest_until_s = 0.0
        elif now_s >= self._rest_until_s:
            self._until_s = now_s + self._patience_s
            self._rest_until_s = self._until_s + self._patience_s
            self._patience_s = min(PATIENCE_S_MAX, 2 * self._patience_s)

    def running_empty(self, now_s: float) -> bool:
        return now_s < self._until_s

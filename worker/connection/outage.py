"""Outages of one storage connection: whether it is lost, since when, and when to try again.

Pure: the caller gives the randomness and the clock.
"""

from __future__ import annotations

from collections.abc import Callable

from taskqd.errors import StorageError, StorageRefused
from taskqd.ipc.messages import StorageLost

SILENT_S = 1.0
"""A server that made us wait for longer was silent; one that refuses says so at once."""


class Backoff:
    """Waits between tries: full-jitter exponential back-off between `first_s` and `cap_s`.

    The floor of half the ceiling keeps a crowd of workers from trying at once without letting one
    try in a row.
    """

    def __init__(
        self, uniform: Callable[[float, float], float], first_s: float = 0.05, cap_s: float = 2.0
    ) -> None:
        self._uniform = uniform
        self._first_s = first_s
        self._cap_s = cap_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        ceiling = self._ceiling_s
        self._ceiling_s = min(self._cap_s, ceiling * 2)
        return self._uniform(ceiling / 2, ceiling)

    def reset(self) -> None:
        self._ceiling_s = self._first_s


class Outage:
    """The state of one storage connection."""

    def __init__(self, uniform: Callable[[float, float], float]) -> None:
        self._backoff = Backoff(uniform)
        self._since_s: float | None = None
        self.why = ""
        """What the latest failed call said."""
        self.retry_at_s = 0.0

    @property
    def lasts(self) -> bool:
        return self._since_s is not None

    def failed(self, now_s: float, why: str = "") -> bool:
        """Note a failed call; return whether that is news: the outage begins, or has another cause."""
        is_news = self._since_s is None or why != self.why
        if self._since_s is None:
            self._since_s = now_s
        self.why = why
        self.retry_at_s = now_s + self._backoff.next_s()
        return is_news

    def lasted_s(self, now_s: float) -> float:
        return 0.0 if self._since_s is None else now_s - self._since_s

    def over(self) -> None:
        """Note that the storage answers again.  Should it fail at once, the back-off goes on."""
        self._since_s = None

    def steady(self) -> None:
        """Note that the storage does what is asked: the next outage begins with a short wait."""
        self._backoff.reset()


def loss(error: StorageError) -> StorageLost:
    """Return what the master is told of it."""
    return StorageLost(str(error), refused=isinstance(error, StorageRefused))

"""How long to wait before the next try.  Pure: the caller gives the randomness and the clock."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Full-jitter exponential back-off between `first_s` and `cap_s`.

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

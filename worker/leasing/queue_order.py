"""In which order a turn asks the queues.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


class QueueOrder:
    """Strict order as listed, or a fresh weighted draw for every turn.

    With weights, each turn asks first a queue drawn in proportion to its weight, then one drawn
    from the rest, and so on: a heavy queue goes first more often and no queue starves.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Mapping[str, int],
        random: Callable[[], float],
    ) -> None:
        self._names = tuple(names)
        self._weights = {name: weights.get(name, 1) for name in names} if weights else {}
        self._random = random

    def next(self) -> tuple[str, ...]:
        if not self._weights or len(self._names) < 2:
            return self._names
        # Efraimidis and Spirakis: sorting by random ** (1 / weight) draws without replacement.
        keys = {name: self._random() ** (1.0 / weight) for name, weight in self._weights.items()}
        return tuple(sorted(self._names, key=keys.__getitem__, reverse=True))

"""Results of many jobs at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

from taskqd.client.result import AWAY_S, Result
from taskqd.clock import monotonic_s
from taskqd.errors import ResultTimeout

R = TypeVar("R", covariant=True)


class ResultGroup(Sequence[Result[R]]):
    """Results of jobs that were enqueued together, in their order."""

    def __init__(self, results: Sequence[Result[R]]) -> None:
        self._results = list(results)

    @overload
    def __getitem__(self, index: int) -> Result[R]: ...

    @overload
    def __getitem__(self, index: slice) -> ResultGroup[R]: ...

    def __getitem__(self, index: int | slice) -> Result[R] | ResultGroup[R]:
        if isinstance(index, slice):
            return ResultGroup(self._results[index])
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"<ResultGroup of {len(self)}>"

    def get(self, timeout: float | None = None) -> list[R]:
        """Return all values in order, within `timeout` seconds in all; raises as `Result.get`."""
        deadline = None if timeout is None else monotonic_s() + timeout
        values = []
        for result in self._results:
            left = None if deadline is None else max(0.0, deadline - monotonic_s())
            values.append(result.get(left))
        return values

    async def aget(self, timeout: float | None = None) -> list[R]:
        """`get` without blocking the event loop."""
        deadline = None if timeout is None else monotonic_s() + timeout
        values = []
        for result in self._results:
            left = None if deadline is None else max(0.0, deadline - monotonic_s())
            values.append(await result.aget(left))
        return values

    def ready(self) -> int:
        """Return how many of the jobs have ended, in one look."""
        self._look([r for r in self._results if r._answer is None])
        return sum(r._answer is not None for r in self._results)

    def as_completed(self, timeout: float | None = None) -> Iterator[Result[R]]:
        """Iterate over the results in the order in which their jobs end.

        Raises ResultTimeout when `timeout` seconds are over before the last has.
        """
        deadline = None if timeout is None else monotonic_s() + timeout
        waiting = list(self._results)
        while waiting:
            self._look(waiting)
            ended = [r for r in waiting if r._answer is not None]
            yield from ended
            waiting = [r for r in waiting if r._answer is None]
            if waiting and not ended:
                self._sleep(waiting, deadline)

    def _sleep(self, waiting: list[Result[R]], deadline: float | None) -> None:
        left = 1.0 if deadline is None else deadline - monotonic_s()
        if left <= 0:
            raise ResultTimeout(f"{len(waiting)} of {len(self)} jobs have not ended; they go on")
        jobs = [(r.id, r.queue) for r in waiting if not r._parked][:_WAIT_FOR_MAX]
        if jobs:
            waiting[0]._app.storage.wait(jobs, min(left, 1.0))
        else:
            time.sleep(min(left, AWAY_S))

    @staticmethod
    def _look(waiting: list[Result[R]]) -> None:
        for start in range(0, len(waiting), _LOOK_AT_MAX):
            part = waiting[start : start + _LOOK_AT_MAX]
            found = part[0]._app.storage.answers([(r.id, r.queue) for r in part])
            for result, data in zip(part, found, strict=True):
                result._keep(data)


_WAIT_FOR_MAX = 64
"""Waiting on the first few of many is enough: their order is roughly that in which they end."""
_LOOK_AT_MAX = 1000

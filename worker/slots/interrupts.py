"""Exceptions for the job that runs in one slot: TaskTimeout at a limit, JobInterrupted.

A job is stopped from inside where its kind can do so: a coroutine by cancelling it, plain code in
the process's main thread by a signal whose handler raises.  Anything else looks at `stopping` and
`check()` itself: an exception that is put into another thread waits for as long as that thread
blocks, and can then strike in the middle of our own bookkeeping.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, NamedTuple

from taskqd.clock import monotonic_s
from taskqd.errors import TaskTimeout

from . import safepoints
from .timer import Timer

AGAIN_S = 0.05
"""What could not be raised just now is tried again so soon."""


class Limit:
    """A time after which a job has run too long."""

    __slots__ = ("at_s", "message", "spent", "token")

    def __init__(self, at_s: float, token: int, message: str) -> None:
        self.at_s = at_s
        self.token = token
        self.message = message
        self.spent = False


class Watched(NamedTuple):
    """A coroutine that runs."""

    token: int
    task: asyncio.Task[Any]
    loop: asyncio.AbstractEventLoop


class Interrupts:
    """The exceptions that wait for the job of one slot.  `limit` and `watched` belong to the slot, `due` to the timer."""

    def __init__(self, timer: Timer, token: Callable[[], int]) -> None:
        """`token`: the token of the job that runs here, 0 for none."""
        self._timer = timer
        self._token = token
        self._limits: list[Limit] = []
        self._wanted: deque[tuple[int, BaseException]] = deque()
        self._watched: Watched | None = None
        self._cancelled: BaseException | None = None
        self.marked = False
        """There may be something to forget."""
        self.wake: Callable[[], None] | None = None
        """Makes the thread that runs the job call `deliver`; None where nothing can."""
        timer.add(self.due)

    def forget(self) -> None:
        """Another job starts here."""
        self.marked = False
        self._limits.clear()
        self._wanted.clear()

    def limit(self, seconds: float, message: str) -> None:
        """Raise TaskTimeout in the job after so many seconds."""
        at_s = monotonic_s() + seconds
        self._limits.append(Limit(at_s, self._token(), message))
        self.marked = True
        self._timer.set(at_s)

    def request(self, token: int, error: BaseException) -> bool:
        """Raise `error` in the job with this token, soon; False: nothing can, here and now."""
        self._wanted.append((token, error))
        self.marked = True
        self._timer.set(0.0)
        return self.wake is not None or self._watched is not None

    # -- coroutines --------------------------------------------------------------------------

    async def watched(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await the job's coroutine; the cancellation that stops it comes out as its reason."""
        task = asyncio.current_task()
        assert task is not None
        self._cancelled = None
        self._watched = Watched(self._token(), task, asyncio.get_running_loop())
        if self._wanted:
            self._timer.set(0.0)
        try:
            return await coroutine
        except asyncio.CancelledError as cancelled:
            if self._cancelled is None:
                raise
            raise self._cancelled.with_traceback(cancelled.__traceback__) from None
        finally:
            self._watched = None

    def _cancel(self, watched: Watched) -> None:
        """On the loop: nothing else of the coroutine runs now."""
        wanted = self._take(watched.token) if self._watched is watched else None
        if wanted is not None:
            self._cancelled = wanted
            watched.task.cancel()

    # -- plain code --------------------------------------------------------------------------

    def deliver(self, frame: FrameType | None) -> None:
        """In the thread that runs the job, between two of its bytecodes: raise what is wanted.

        Where the job is not in its own code, it is tried again.
        """
        if self._wanted and self._watched is None and safepoints.in_users_code(frame):
            wanted = self._take(self._token())
            if wanted is not None:
                raise wanted

    # -- the timer ---------------------------------------------------------------------------

    def due(self, now_s: float) -> float:
        token = self._token()
        next_s = math.inf
        for limit in tuple(self._limits):
            if limit.spent or limit.token != token:
                continue
            if limit.at_s > now_s:
                next_s = min(next_s, limit.at_s)
                continue
            limit.spent = True
            self._wanted.append((token, TaskTimeout(limit.message)))
        wants = any(of == token for of, _ in tuple(self._wanted))
        return now_s + AGAIN_S if wants and self._aim() else next_s

    def _take(self, token: int) -> BaseException | None:
        """Take the next exception that is for this job; several threads may ask."""
        while True:
            try:
                of, error = self._wanted.popleft()
            except IndexError:
                return None
            if of == token:
                return error

    def _aim(self) -> bool:
        watched, wake = self._watched, self.wake
        if watched is not None:
            try:
                watched.loop.call_soon_threadsafe(self._cancel, watched)
            except RuntimeError:  # the loop was closed: the coroutine has ended
                return False
            return True
        if wake is not None:
            wake()
            return True
        return False

"""Waiting for results, and enqueueing, from a coroutine without blocking its loop.

Neither uses the loop's own threads: many that wait for results would leave none for those that
enqueue the jobs, and one that nobody waits for any more would keep the loop from closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from taskqd.clock import monotonic_s
from taskqd.errors import StorageUnavailable, TaskqdError
from taskqd.storage.base import Storage

P = ParamSpec("P")
T = TypeVar("T")

CALLERS_MAX = 8
"""Threads that enqueue."""
WAITERS_MAX = 8
"""Threads that wait, each for any number of results."""
SLICE_S = 0.5
"""With all threads waiting, a new result is looked at after so long at most."""
IDLE_S = 5.0
KNOWN_S = 5.0
_WAIT_FOR_MAX = 64
_LOOK_AT_MAX = 1000

_callers: dict[int, ThreadPoolExecutor] = {}
"""By process: threads do not come over a fork."""


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that blocks in a thread of ours, in the caller's context."""
    callers = _callers.get(os.getpid())
    if callers is None:
        _callers.clear()
        callers = _callers[os.getpid()] = ThreadPoolExecutor(CALLERS_MAX, "taskqd-call")
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(callers, call)


class Awaited(Protocol):
    """What is needed of a result."""

    id: str
    queue: str | None

    @property
    def parked(self) -> bool:
        """It has an answer already, which need not be the last: a wait would return at once."""
        ...

    def take(self, data: bytes | None) -> bool:
        """Take the encoded answer; returns whether the job has ended.  Raises DecodeError."""
        ...

    def look(self) -> bool:
        """Return whether the job has ended.  Raises ResultMissing for one that is not known."""
        ...


class _Waiting:
    """One result that a coroutine waits for."""

    def __init__(self, result: Awaited) -> None:
        self.result = result
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.known_s = 0.0
        """When to look whether the job is still known."""
        self.trouble: StorageUnavailable | None = None

    def tell(self, error: Exception | None = None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class Waiters:
    """An app's threads that wait for results; they end when there is nothing to wait for."""

    def __init__(self, storage: Callable[[], Storage], close: Callable[[], None]) -> None:
        """`storage`: the calling thread's; `close`: closes it."""
        self._storage = storage
        self._close = close
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._new: list[_Waiting] = []
        self._threads = 0
        self._idle = 0

    async def wait(self, result: Awaited, timeout: float | None) -> bool:
        """Wait until the job has ended.  False: the time is over and it has not.

        Raises ResultMissing, DecodeError, and StorageUnavailable where the storage is away when the
        time is over.
        """
        waiting = _Waiting(result)
        self._add(waiting)
        try:
            async with asyncio.timeout(timeout):
                await waiting.ended
        except TimeoutError:
            if waiting.trouble is not None:
                raise waiting.trouble from None
            return False
        return True

    def _add(self, waiting: _Waiting) -> None:
        if self._pid != os.getpid():
            self._forget()
        with self._changed:
            self._new.append(waiting)
            if self._idle:
                self._changed.notify()
            elif self._threads < WAITERS_MAX:
                self._threads += 1
                threading.Thread(target=self._run, name="taskqd-wait", daemon=True).start()

    def _run(self) -> None:
        mine: list[_Waiting] = []
        try:
            while self._take(mine):
                try:
                    self._look(mine)
                    self._sleep([waiting for waiting in mine if not waiting.ended.done()])
                except StorageUnavailable as error:
                    for waiting in mine:
                        waiting.trouble = error
                    time.sleep(SLICE_S)
                except Exception as error:  # a wait ends with something definite, whatever it is
                    for waiting in mine:
                        waiting.tell(error)
        finally:
            self._close()

    def _take(self, mine: list[_Waiting]) -> bool:
        """Add what is new to this thread's; False: there has been nothing for a while."""
        mine[:] = [waiting for waiting in mine if not waiting.ended.done()]
        with self._changed:
            if not mine and not self._new:
                self._idle += 1
                self._changed.wait(IDLE_S)
                self._idle -= 1
            mine += self._new
            self._new.clear()
            if not mine:
                self._threads -= 1
            return bool(mine)

    def _look(self, mine: Sequence[_Waiting]) -> None:
        """Tell those whose jobs have ended, or are not known any more."""
        storage = self._storage()
        for start in range(0, len(mine), _LOOK_AT_MAX):
            part = mine[start : start + _LOOK_AT_MAX]
            answers = storage.answers([(w.result.id, w.result.queue) for w in part])
            for waiting, data in zip(part, answers, strict=True):
                self._judge(waiting, data)

    def _judge(self, waiting: _Waiting, data: bytes | None) -> None:
        waiting.trouble = None
        try:
            ended = waiting.result.take(data)
            if not ended and monotonic_s() >= waiting.known_s:
                waiting.known_s = monotonic_s() + KNOWN_S
                ended = waiting.result.look()
        except StorageUnavailable:
            raise
        except TaskqdError as error:
            waiting.tell(error)
        else:
            if ended:
                waiting.tell()

    def _sleep(self, mine: Sequence[_Waiting]) -> None:
        jobs = [(w.result.id, w.result.queue) for w in mine if not w.result.parked]
        if jobs:
            self._storage().wait(jobs[:_WAIT_FOR_MAX], SLICE_S)
        elif mine:
            time.sleep(SLICE_S)

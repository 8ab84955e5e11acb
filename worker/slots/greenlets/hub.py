"""What greenlets have in place of threads: a timer on their loop, calls aside, an asyncio loop among them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as HubEvent

from taskqd.clock import monotonic_s
from taskqd.listeners import ASIDE_MAX
from taskqd.worker.host import syscalls
from taskqd.worker.slots.timer import Timer


class HubTimer(Timer):
    """Rings on gevent's loop, where every job that waits can be stopped."""

    def __init__(self, hub: Any) -> None:
        super().__init__()
        self._hub = hub
        self._timer: Any = None

    def set(self, at_s: float) -> None:
        if at_s < math.inf:
            self._hub.loop.run_callback_threadsafe(self._put, at_s)

    def _put(self, at_s: float) -> None:
        if at_s >= self._at_s:
            return
        if self._timer is not None:
            self._timer.close()
        self._at_s = at_s
        self._timer = self._hub.loop.timer(max(0.0, at_s - monotonic_s()))
        self._timer.start(self._ring)

    def _ring(self) -> None:
        self._at_s = math.inf
        now_s = monotonic_s()
        self.set(min((due(now_s) for due in self._dues), default=math.inf))


class HubEventFlag:
    """An event that a greenlet waits for and another thread sets."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._event = HubEvent()
        self.clear, self.wait = self._event.clear, self._event.wait

    def set(self) -> None:
        self._hub.loop.run_callback_threadsafe(self._event.set)


class LoopGreenlet:
    """An asyncio event loop in a greenlet of its own, for the `async def` tasks of all slots."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], *, context: Context) -> Any:
        """Return what the coroutine returns; this greenlet waits, others go on."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            gevent.spawn(syscalls.vital, self._serve)
        ended = AsyncResult()
        task = self._loop.create_task(_contained(coroutine), context=context)
        task.add_done_callback(ended.set)
        self._loop.call_soon_threadsafe(int)  # it may be asleep
        ended.get()
        value, exit_asked = task.result()
        if exit_asked is not None:
            raise exit_asked
        return value

    def _serve(self) -> None:
        assert self._loop is not None
        self._loop.run_forever()
        raise RuntimeError("a job has stopped the event loop, on which others wait")


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """Return what the coroutine returns, or what of its errors would end the loop as well."""
    try:
        return await coroutine, None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


class HubAside:
    """Makes calls on gevent's loop, in order, for threads that may not run a greenlet themselves."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._calls: deque[Callable[[], None]] = deque()
        self._runs = False
        self._idle = HubEvent()
        self._idle.set()

    def put(self, call: Callable[[], None]) -> bool:
        """False: too many wait already."""
        if len(self._calls) >= ASIDE_MAX:
            return False
        self._calls.append(call)
        self._hub.loop.run_callback_threadsafe(self._start)
        return True

    def _start(self) -> None:
        if not self._runs:
            self._runs = True
            self._idle.clear()
            gevent.spawn(self._run)

    def _run(self) -> None:
        while self._calls:
            self._calls.popleft()()
        self._runs = False
        self._idle.set()

    def flush(self, timeout_s: float) -> None:
        """Wait until all are made, or the time is over; on the loop."""
        gevent.sleep(0)
        self._idle.wait(timeout_s)

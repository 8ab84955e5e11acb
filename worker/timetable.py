"""The periodic tasks of an app and how far each has been dealt with."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from taskqd import events
from taskqd.clock import now_ms
from taskqd.errors import QueueFull, StorageError
from taskqd.job import clip
from taskqd.log import Log
from taskqd.periodic import PeriodicTask
from taskqd.storage.base import Fired, Storage

from .ticks import firing, floor

FULL_MS = 5_000
"""Between two tries to find room for a tick."""
BROKEN_MS = 60_000
"""Between two tries of a task whose rule or payload raises."""
LOOK_MAX_S = 5.0
"""The wall clock may jump: look at it at least so often."""
KNOWN_S = 7 * 86400
"""How much longer than until the next tick a tick is known."""


class Timetable:
    def __init__(
        self, tasks: Sequence[PeriodicTask], missed: str, clock: Callable[[], int] = now_ms
    ) -> None:
        """`missed`: the policy of tasks that state none.  `clock`: Unix ms."""
        self._tasks = tasks
        self._missed = missed
        self._clock = clock
        self._cursors: dict[str, int] = {}
        """Task -> Unix ms up to which its ticks are dealt with."""
        self._next: dict[str, int | None] = {}
        """Task -> its next tick."""
        self._behind: set[str] = set()
        """Tasks whose missed ticks are being fired, some at each look."""

    def fire(self, storage: Storage, log: Log) -> float:
        """Fire what is due; return after how many seconds to look again.

        Raises StorageError; what has fired by then does not fire again.
        """
        for task in self._tasks:
            now = self._clock()
            due = self._next.get(task.name, 0)
            if due is not None and due <= now:
                self._serve(task, now, storage, log)
        coming = [due for due in self._next.values() if due is not None]
        if not coming:
            return LOOK_MAX_S
        return max(0.0, min(LOOK_MAX_S, (min(coming) - self._clock()) / 1000))

    def _serve(self, task: PeriodicTask, now: int, storage: Storage, log: Log) -> None:
        try:
            if task.name not in self._cursors:
                self._begin(task, now, storage)
            self._catch_up(task, now, storage, log)
        except QueueFull as error:
            # The storage serves; only new jobs find no room.  The tick stays due.
            log.emit(events.STORAGE_WARNING, text=f"tick of {task.name}: {error}")
            self._next[task.name] = now + FULL_MS
        except StorageError:
            raise
        except Exception as error:
            # One task's rule or payload must not stop the others' ticks; it is tried again.
            log.emit(
                events.HOOK_FAILED,
                hook=f"periodic task {task.name}",
                error=clip(f"{type(error).__name__}: {error}"),
                traceback=traceback.format_exc(),
            )
            self._next[task.name] = now + BROKEN_MS

    def _begin(self, task: PeriodicTask, now: int, storage: Storage) -> None:
        """Go on after the last tick that anybody fired, else from when a daemon first knew the
        task, else from now, which is written down."""
        seen = f"{task.name} seen"
        last = storage.last_tick(task.name) or storage.last_tick(seen)
        self._cursors[task.name] = last or now
        if last is None:
            storage.fire(f"{seen}@{now}", [], self._known_s(task, now))

    def _catch_up(self, task: PeriodicTask, now: int, storage: Storage, log: Log) -> None:
        name, policy, cursor = task.name, task.missed or self._missed, self._cursors[task.name]
        if policy == "all" and name not in self._behind:
            start, dropped = floor(task.next_after, cursor, now)
            self._tell_missed(task, cursor, dropped, log)
            cursor = start
        plan = firing(task.next_after, cursor, now, policy)
        for tick_ms in plan.ticks:
            self._fire_one(task, tick_ms, storage, log)
        self._next[name] = task.next_after(plan.cursor_ms)
        self._cursors[name] = plan.cursor_ms
        (self._behind.add if plan.more else self._behind.discard)(name)
        self._tell_missed(task, cursor, plan.missed, log)

    def _fire_one(self, task: PeriodicTask, tick_ms: int, storage: Storage, log: Log) -> None:
        tick = f"{task.name}@{tick_ms}"
        fired = storage.fire(tick, [task.entry(tick_ms)], self._known_s(task, tick_ms))
        if fired is Fired.NOW:
            log.emit(events.TICK_FIRED, task=task.name, tick=tick_ms)
        elif fired is Fired.HELD:
            log.emit(events.TICK_MISSED, task=task.name, tick=tick_ms, count=1, reason="overlap")

    @staticmethod
    def _tell_missed(task: PeriodicTask, after_ms: int, count: int, log: Log) -> None:
        if count:
            tick = task.next_after(after_ms)
            log.emit(events.TICK_MISSED, task=task.name, tick=tick, count=count, reason="late")

    @staticmethod
    def _known_s(task: PeriodicTask, tick_ms: int) -> int:
        """Return how long a tick must be known, so that the next one's policy can be told."""
        next_ms = task.next_after(tick_ms) or tick_ms
        return KNOWN_S + (next_ms - tick_ms) // 1000

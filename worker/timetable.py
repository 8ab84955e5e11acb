"""The periodic tasks of an app and how far each has been dealt with."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from taskqd import events
from taskqd.clock import now_ms
from taskqd.errors import QueueFull, StorageError
from taskqd.job import clip
from taskqd.log import Log
from taskqd.periodic import PeriodicTask
from taskqd.storage.base import Storage

from .ticks import firing

FULL_MS = 5_000
"""Between two tries to find room for a tick."""
BROKEN_MS = 60_000
"""Between two tries of a task whose rule or payload raises."""
LOOK_MAX_S = 5.0
"""The wall clock may jump: look at it at least so often."""


class Timetable:
    def __init__(self, tasks: Sequence[PeriodicTask], missed: str) -> None:
        """`missed`: the policy of tasks that state none."""
        self._tasks = tasks
        self._missed = missed
        self._cursors: dict[str, int] = {}
        """Task -> Unix ms up to which its ticks are dealt with."""
        self._next: dict[str, int | None] = {}
        """Task -> its next tick."""

    def fire(self, storage: Storage, log: Log) -> float:
        """Fire what is due; return after how many seconds to look again.

        Raises StorageError; what has fired by then does not fire again.
        """
        for task in self._tasks:
            now = now_ms()
            due = self._next.get(task.name, 0)
            if due is not None and due <= now:
                self._serve(task, now, storage, log)
        coming = [due for due in self._next.values() if due is not None]
        if not coming:
            return LOOK_MAX_S
        return max(0.0, min(LOOK_MAX_S, (min(coming) - now_ms()) / 1000))

    def _serve(self, task: PeriodicTask, now: int, storage: Storage, log: Log) -> None:
        cursor = self._cursors.get(task.name)
        if cursor is None:
            last = storage.last_tick(task.name)
            cursor = now if last is None else last
        try:
            plan = firing(task.next_after, cursor, now, task.missed or self._missed)
            for tick_ms in plan.ticks:
                self._fire_one(task, tick_ms, storage, log)
            self._next[task.name] = task.next_after(plan.cursor_ms)
        except QueueFull as error:
            # The storage serves; only new jobs find no room.  The tick stays due.
            log.emit(events.STORAGE_WARNING, text=f"tick of {task.name}: {error}")
            self._next[task.name] = now + FULL_MS
            return
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
            return
        self._cursors[task.name] = plan.cursor_ms
        if plan.missed:
            log.emit(events.TICK_MISSED, task=task.name, tick=cursor, count=plan.missed)

    def _fire_one(self, task: PeriodicTask, tick_ms: int, storage: Storage, log: Log) -> None:
        if storage.fire(f"{task.name}@{tick_ms}", [task.entry(tick_ms)]):
            log.emit(events.TICK_FIRED, task=task.name, tick=tick_ms)

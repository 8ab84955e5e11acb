"""The periodic tasks of an app, declared and made at run time, and how far each is dealt with."""

from __future__ import annotations

import heapq
import traceback
from collections.abc import Callable, Mapping

from taskqd.clock import StorageClock
from taskqd.errors import QueueFull, StorageError
from taskqd.jobs.exception_text import describe, writable
from taskqd.jobs.job import clip
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.periodic.compile import Reading
from taskqd.periodic.task import PeriodicTask
from taskqd.storage.base import Fired, Storage

from .due_ticks import firing, floor, is_late

FULL_MS = 5_000
"""Between two tries to find room for a tick."""
BROKEN_MS = 60_000
"""Between two tries of a task whose rule or payload raises."""
LOOK_MAX_S = 5.0
"""The storage's clock may be set: look at it at least so often."""
BACK_MS = 1000
"""A clock that goes back by more was set."""
KNOWN_MS = 7 * 86_400_000
"""How much longer than until the next tick a tick is known, at most ..."""
KNOWN_TICKS = 100_000
"""... because no more ticks of one task than these, or those of an hour, shall fill the storage."""


Read = Callable[[Mapping[str, bytes]], Reading]


class Ticker:
    def __init__(self, read: Read, missed: str, clock: Callable[[], int] | None = None) -> None:
        """`read`: what the app makes of the stored schedules.  `missed`: the policy of tasks that
        state none.  `clock`: Unix ms; None: that of the storage, whatever this host's says."""
        self._read = read
        self._tasks: dict[str, PeriodicTask] = {}
        self._stored: dict[str, bytes] | None = None
        self._looked_ms = 0
        self._broken: dict[str, str] = {}
        self._missed = missed
        self._theirs = StorageClock(lambda: 0)
        self._clock = clock or self._theirs.estimate_ms
        self._latest_ms = 0
        self._cursors: dict[str, int] = {}
        """Task -> Unix ms up to which its ticks are dealt with."""
        self._next: dict[str, int | None] = {}
        """Task -> its next tick."""
        self._coming: list[tuple[int, str]] = []
        """Heap of next ticks; what `_next` does not say any more is stale."""
        self._behind: set[str] = set()
        """Tasks whose missed ticks are being fired, some at each look."""

    def fire(self, storage: Storage, log: Log, *, look: bool = False) -> float:
        """Fire what is due; return after how many seconds to do it again.

        `look`: at the stored schedules too, which may have changed.
        Raises StorageError; what has fired by then does not fire again.
        """
        self._theirs.refresh(storage.server_ms)
        self._notice_set_back(self._clock())
        since_ms = self._clock() - self._looked_ms
        if look or not 0 <= since_ms < LOOK_MAX_S * 1000:
            self._look(storage, log)
        ready = self._ready(self._clock())
        while ready:
            try:
                self._serve(self._tasks[ready[-1]], self._clock(), storage, log)
            except StorageError:
                for name in ready:
                    self._expect(name, self._next[name])
                raise
            ready.pop()
        if not self._coming:
            return LOOK_MAX_S
        return max(0.0, min(LOOK_MAX_S, (self._coming[0][0] - self._clock()) / 1000))

    def _notice_set_back(self, now: int) -> None:
        """Where the clock was ahead and came back, let what it made us pass over be due again.

        law: a slot that was passed over while the clock was ahead fires at its time, and one that has
        fired does not fire twice (test_a_clock_that_was_ahead_and_came_back_misses_no_tick).
        """
        if now < self._latest_ms - BACK_MS:
            for name in self._cursors:
                self._cursors[name] = min(self._cursors[name], now)
                self._expect(name, 0)
        self._latest_ms = now

    def _expect(self, name: str, due_ms: int | None) -> None:
        self._next[name] = due_ms
        if due_ms is not None:
            heapq.heappush(self._coming, (due_ms, name))

    def _ready(self, now: int) -> list[str]:
        """Return the tasks that are due, the earliest last."""
        names: dict[str, None] = {}
        while self._coming and self._coming[0][0] <= now:
            due, name = heapq.heappop(self._coming)
            if self._next.get(name) == due:  # else it was expected anew since
                names[name] = None
        return list(names)[::-1]

    def _look(self, storage: Storage, log: Log) -> None:
        """Take up what has changed in the storage's schedules."""
        known, stored = self._stored, storage.schedules()
        self._looked_ms = self._clock()
        if stored == known:
            return
        reading, self._stored = self._read(stored), stored
        self._tasks = {task.name: task for task in reading.tasks if not task.paused}
        for name in {*(known or {}), *stored}:
            if (known or {}).get(name) != stored.get(name):
                self._next.pop(name, None)
        for name in {*self._cursors, *self._next}:
            if name not in self._tasks:
                self._forget(name)
            elif name in self._cursors:
                since_ms = min(self._tasks[name].since_ms, self._looked_ms)
                self._cursors[name] = max(self._cursors[name], since_ms)
        for name in self._tasks:
            if name not in self._next:
                self._expect(name, 0)
        for name, error in reading.broken.items():
            if self._broken.get(name) != error:
                log.emit(events.SCHEDULE_REJECTED, schedule=name, error=clip(error))
        self._broken = reading.broken

    def _forget(self, name: str) -> None:
        self._cursors.pop(name, None)
        self._next.pop(name, None)
        self._behind.discard(name)

    def _serve(self, task: PeriodicTask, now: int, storage: Storage, log: Log) -> None:
        try:
            if task.name not in self._cursors:
                self._begin(task, now, storage)
            self._catch_up(task, now, storage, log)
        except QueueFull as error:
            # The storage serves; only new jobs find no room.  The tick stays due.
            log.emit(events.STORAGE_WARNING, text=f"tick of {task.name}: {error}")
            self._expect(task.name, now + FULL_MS)
        except StorageError:
            raise
        except Exception as error:
            # One task's rule or payload must not stop the others' ticks; it is tried again.
            log.emit(
                events.HOOK_FAILED,
                hook=f"periodic task {task.name}",
                error=clip(describe(error)),
                traceback=writable(traceback.format_exc()),
            )
            self._expect(task.name, now + BROKEN_MS)

    def _begin(self, task: PeriodicTask, now: int, storage: Storage) -> None:
        """Go on after the last tick that anybody fired, else from when it was made or a daemon
        first knew it, else from now, which is written down."""
        seen = f"{task.name} seen"
        last = max(storage.last_tick(task.name) or 0, task.since_ms) or storage.last_tick(seen)
        # What lies ahead was fired by a clock that was ahead.
        self._cursors[task.name] = min(last or now, now)
        if not last:
            storage.fire(f"{seen}@{now}", [], self._known_s(task, now))

    def _catch_up(self, task: PeriodicTask, now: int, storage: Storage, log: Log) -> None:
        name, policy, cursor = task.name, task.missed or self._missed, self._cursors[task.name]
        if is_late(task.next_after, cursor, now):
            # We may have been away alone: what others have dealt with is not ours any more.
            cursor = max(cursor, min(storage.last_tick(name) or 0, now))
        if policy == "all" and name not in self._behind:
            start, dropped = floor(task.next_after, cursor, now)
            self._tell_missed(task, cursor, dropped, log)
            cursor = start
        plan = firing(task.next_after, cursor, now, policy)
        for tick_ms in plan.ticks:
            self._fire_one(task, tick_ms, storage, log)
        self._expect(name, task.next_after(plan.cursor_ms))
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
        gap_ms = (task.next_after(tick_ms) or tick_ms + KNOWN_MS) - tick_ms
        return (gap_ms + max(3_600_000, min(KNOWN_MS, KNOWN_TICKS * gap_ms))) // 1000

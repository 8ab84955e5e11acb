"""What happens when its time has come, in memory: delayed jobs, ticks, schedules, the end of lifetimes."""

from __future__ import annotations

from collections.abc import Sequence

from taskqd.jobs.job import Entry
from taskqd.storage.base import Due, Fired
from taskqd.storage.memory.limits import free_expired_places
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Job, Line
from taskqd.storage.memory.state.space import TIMERS, Space
from taskqd.storage.rules import (
    split_tick,
)


class TimerCalls(Base):
    """The contract's calls of schedulers."""

    def promote(self, queues: Sequence[str], limit: int = 1000) -> Due:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            promoted = sum(_promote(space, line, now, limit) for line in space.some(queues))
            due = [job.at_ms for line in space.some(queues) if (job := line.earliest())]
            return Due(promoted, max(0, min(due) - now) / 1000 if due else None)

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        key = split_tick(tick)
        space = self._space
        with space.lock:
            now = space.wall_ms()
            if space.ticks.get(key, 0) > now:
                return Fired.BEFORE
            space.ticks[key] = now + ttl_s * 1000
            new = [entry for entry in jobs if space.add(entry)]
            for entry in new:
                space.ring(entry.queue, 1)
            return Fired.HELD if jobs and not new else Fired.NOW

    def last_tick(self, name: str) -> int | None:
        with self._space.lock:
            now = self._space.wall_ms()
            known = self._space.ticks.items()
            return max(
                (ms for (of, ms), until in known if of == name and until > now), default=None
            )

    def purge(self, queues: Sequence[str], *, dead_ttl_s: int, dead_max: int) -> int:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            old = [tick for tick, until in space.ticks.items() if until <= now]
            for tick in old:
                del space.ticks[tick]
            lines = space.some(queues)
            _forget_old(space)
            return len(old) + sum(_purge(line, now, dead_ttl_s, dead_max) for line in lines)

    def schedule_put(self, name: str, data: bytes) -> None:
        with self._space.lock:
            self._space.schedules[name] = data
            self._space.ring(TIMERS, len(self._space.idle.get(TIMERS, ())))

    def schedule_drop(self, name: str) -> bool:
        with self._space.lock:
            found = self._space.schedules.pop(name, None) is not None
            self._space.ring(TIMERS, len(self._space.idle.get(TIMERS, ())))
            return found

    def schedules(self) -> dict[str, bytes]:
        with self._space.lock:
            return dict(self._space.schedules)


def _promote(space: Space, line: Line, now_ms: int, limit: int) -> int:
    promoted = 0
    while promoted < limit and (job := line.earliest()) and job.at_ms <= now_ms:
        line.to_tail(job)
        promoted += 1
    if not line.paused:
        space.ring(line.name, promoted)
    return promoted


def _forget_old(space: Space) -> None:
    """Drop what is past its lifetime."""
    now = space.wall_ms()
    space.taken = {key: taken for key, taken in space.taken.items() if taken.until_ms > now}
    space.gone = {worker: until for worker, until in space.gone.items() if until > now}
    space.orders = {s: kept for s, kept in space.orders.items() if kept[1] > now}
    space.groups = {g: group for g, group in space.groups.items() if group.until_ms > now}
    space.rates = {key: rate for key, rate in space.rates.items() if rate.until_ms > now}
    free_expired_places(space)


def _purge(line: Line, now_ms: int, dead_ttl_s: int, dead_max: int) -> int:
    gone: list[Job] = [job for job in line.dead.values() if job.at_ms <= now_ms - dead_ttl_s * 1000]
    gone += list(line.dead.values())[len(gone) : len(line.dead) - dead_max]
    for job in gone:
        line.to_ended(job, now_ms)
    old = [job for job in line.ended.values() if job.answer_until_ms <= now_ms]
    for job in old:
        line.to_nowhere(job)
    return len(gone) + len(old)

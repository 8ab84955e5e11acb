"""What happens when its time has come, on Redis: delayed jobs, ticks, schedules, the end of lifetimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskqd.jobs.job import Entry
from taskqd.storage.base import Due, Fired
from taskqd.storage.redis.keyspace.durable import DurableBase, fields
from taskqd.storage.redis.limits import free_stale_locks
from taskqd.storage.rules import (
    split_tick,
)

PAGE = 1000
PURGE_PAGE = 300
"""Rows of each kind that one call drops; a parked letter takes some commands."""


class TimerCalls(DurableBase):
    """The contract's calls of schedulers."""

    def promote(self, queues: Sequence[str], limit: int = PAGE) -> Due:
        replies = self.run_each("promote", queues, [min(limit, PAGE)])
        left_ms = [left for _, left in replies if left >= 0]
        return Due(sum(moved for moved, _ in replies), min(left_ms) / 1000 if left_ms else None)

    def purge(self, queues: Sequence[str], *, dead_ttl_s: int, dead_max: int) -> int:
        """Drop what is past its lifetime, but for answers, which the server drops itself."""
        free_stale_locks(self)
        while self.run("purge_orders", "", [PAGE]) >= PAGE:
            pass
        total = 0
        for queue in ["", *queues]:
            more = 1
            while more:
                dropped, more = self.run("purge", queue, [dead_ttl_s, dead_max, PURGE_PAGE])
                total += dropped
        return total

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        """Enqueue the jobs of a tick once.  The first job's queue keeps the mark that it has fired, so
        the marks of all queues are looked at before."""
        name, ms = split_tick(tick)
        queues = list(dict.fromkeys(job.queue for job in jobs))
        self.announce(queues)
        home = queues[0] if queues else ""
        if self._has_fired(tick):
            self._confirm(home)
            return Fired.BEFORE
        some = False
        for queue in queues[1:]:
            mine = [job._replace(fresh=False) for job in jobs if job.queue == queue]
            some |= any(self.write_jobs(queue, mine))
        args: list[Any] = [tick, name, ms, ttl_s]
        args += fields([job._replace(fresh=False) for job in jobs if job.queue == home])
        reply, *written = self.run_all([("fire", home, args)], then=self._wait_commands())
        self._check_written(written)
        return Fired.NOW if reply and some else Fired(reply)

    def _has_fired(self, tick: str) -> bool:
        places = ["", *self.known_queues()]
        commands = [("ZSCORE", self.at(queue)["ticks"], tick) for queue in places]
        now = self.server_ms()
        kept = self._link.pipeline(commands, write=False)
        return any(until is not None and float(until) > now for until in kept)

    def last_tick(self, name: str) -> int | None:
        """Return the Unix ms of the newest tick ``name@ms`` that fired, None if none is known."""
        places = ["", *self.known_queues()]
        found = self.run_each("last_tick", places, [name], write=False)
        return max((int(ms) for ms in found if ms is not None), default=None)

    def schedule_put(self, name: str, data: bytes) -> None:
        self.run_written([("put_schedule", "", [name, data])])
        self.run_each("ring_timers", self.known_queues())

    def schedule_drop(self, name: str) -> bool:
        found = bool(self._link.call("HDEL", self.at("")["schedules"], name))
        self._confirm("")
        self.run_each("ring_timers", self.known_queues())
        return found

    def schedules(self) -> dict[str, bytes]:
        flat = self._link.call("HGETALL", self.at("")["schedules"], write=False)
        return {k.decode(): v for k, v in zip(flat[::2], flat[1::2], strict=True)}

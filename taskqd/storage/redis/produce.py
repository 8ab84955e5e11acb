"""Writing jobs: in chunks, in one go, waited for as the durability asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taskqd.errors import OutcomeUnknown
from taskqd.jobs.job import Entry
from taskqd.storage.base import Fired
from taskqd.storage.redis.core import Call, Core
from taskqd.storage.redis.doctor import Doctor
from taskqd.storage.rules import split_tick

CHUNK_JOBS = 1000
CHUNK_BYTES = 1_000_000
WINDOW = 16
"""Chunks sent before their replies are read."""
WAIT_MS = 4000


class Produce(Core):
    """Enqueue and ticks."""

    _doctor: Doctor

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        if len(jobs) == 1:
            self.announce((jobs[0].queue,))
            return self._enqueue(jobs[0].queue, jobs)
        queues = list(dict.fromkeys(job.queue for job in jobs))
        self.announce(queues)
        if len(queues) <= 1:
            return self._enqueue(queues[0], jobs) if jobs else []
        results: dict[str, Iterator[bool]] = {}
        for queue in queues:
            results[queue] = iter(self._enqueue(queue, [j for j in jobs if j.queue == queue]))
        return [next(results[job.queue]) for job in jobs]

    def _enqueue(self, queue: str, jobs: Sequence[Entry]) -> list[bool]:
        durable = self._needs_wait()
        if len(jobs) == 1 and not durable:
            return _verdicts(1, self.run(*_call(queue, jobs, durable=False)))
        chunks = list(_chunks(jobs))
        result: list[bool] = []
        for at in range(0, len(chunks), WINDOW):
            window = chunks[at : at + WINDOW]
            calls = [_call(queue, chunk, durable=durable) for chunk in window]
            replies = self.run_all(calls, then=self._wait_commands())
            for chunk, reply in zip(window, replies, strict=False):
                result += _verdicts(len(chunk), reply)
            self._check_written(replies[len(window) :])
        return result

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        """The mark is kept by the first job's queue; whoever fires looks in all of them first."""
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
            some |= any(self._enqueue(queue, mine))
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

    # -- durability ------------------------------------------------------------------------

    def _needs_wait(self) -> bool:
        return self._durability in ("local", "replica")

    def _wait_commands(self) -> list[tuple[Any, ...]]:
        """Return what to send behind a write, so that its reply means what was asked for."""
        if not self._needs_wait():
            return []
        if self._durability == "replica":
            return [("WAIT", 1, WAIT_MS)]
        return [("WAITAOF", 1, 0, WAIT_MS)] if self._doctor.local_durability() == "WAITAOF" else []

    def _confirm(self, queue: str) -> None:
        """Wait for what others have written, too: whoever fired a tick may not know how that ended."""
        commands = self._wait_commands()
        if commands:
            _, *written = self.run_all([("enqueue", queue, ["1"])], then=commands)
            self._check_written(written)

    def _check_written(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            count = reply[0] if isinstance(reply, list) else reply
            if not count:
                raise OutcomeUnknown(
                    f"{self._link.where}: written, but not confirmed as durability="
                    f"{self._durability!r} asks within {WAIT_MS / 1000:g} s; "
                    "repeating it under the same id is safe"
                )


def _chunks(jobs: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut into pieces that neither block the server nor fill its buffers."""
    start = size = 0
    for at, job in enumerate(jobs):
        if at - start >= CHUNK_JOBS or (size and size + len(job.payload) > CHUNK_BYTES):
            yield jobs[start:at]
            start, size = at, 0
        size += len(job.payload)
    if start < len(jobs):
        yield jobs[start:]


def _call(queue: str, jobs: Sequence[Entry], *, durable: bool) -> Call:
    """Return the cheapest script that takes these jobs in."""
    priority = jobs[0].priority
    args: list[Any] = [f"ready:{priority}" if priority else "ready", len(jobs)]
    for job in jobs:
        if job.run_at_ms or job.unique or job.priority != priority or not job.fresh:
            return "enqueue", queue, ["1" if durable else "0", *fields(jobs)]
        args += (job.id, job.payload)
    return "enqueue_bulk", queue, args


def fields(jobs: Sequence[Entry]) -> Iterator[Any]:
    """Iterate over the seven fields of each job that accept.lua takes."""
    for job in jobs:
        fresh = "1" if job.fresh else "0"
        yield from (job.id, job.payload, job.run_at_ms, job.priority, fresh)
        yield from (job.unique, job.unique_until)


def _verdicts(count: int, reply: Any) -> list[bool]:
    if isinstance(reply, int):
        return [True] * count
    return [byte == ord("1") for byte in reply]

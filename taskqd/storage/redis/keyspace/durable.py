"""Writing jobs: in chunks, in one go, waited for as the durability asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from taskqd.errors import OutcomeUnknown
from taskqd.jobs.job import Entry
from taskqd.storage.redis.keyspace.base import Base, Call
from taskqd.storage.redis.link.connection import Args

CHUNK_JOBS = 1000
CHUNK_BYTES = 1_000_000
WINDOW = 16
"""Chunks sent before their replies are read."""
WAIT_MS = 4000


class DurableBase(Base):
    """Writes jobs, and waits until they are kept as `durability` asks."""

    def write_jobs(self, queue: str, jobs: Sequence[Entry]) -> list[bool]:
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

    def _needs_wait(self) -> bool:
        return self._durability in ("local", "replica")

    def _wait_commands(self) -> list[tuple[Any, ...]]:
        """Return what to send behind a write, so that its reply means what was asked for."""
        if not self._needs_wait():
            return []
        if self._durability == "replica":
            return [("WAIT", 1, WAIT_MS)]
        return [("WAITAOF", 1, 0, WAIT_MS)] if self._checks.local_durability() == "WAITAOF" else []

    def run_written(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts and wait for what they have written, as `durability` asks; return their replies.

        Repeatable: what an earlier call has written is waited for as well.
        """
        commands = self._wait_commands()
        if not commands:
            return self.run_all(calls)
        marks = [("confirm", queue, ()) for queue in dict.fromkeys(call[1] for call in calls)]
        replies = self.run_all([*calls, *marks], then=commands)
        self._check_written(replies[len(calls) + len(marks) :])
        return replies[: len(calls)]

    def run_each_written(self, name: str, queues: Iterable[str], args: Args = ()) -> list[Any]:
        """As `run_written`, one script for each queue."""
        return self.run_written([(name, queue, args) for queue in queues])

    def _confirm(self, queue: str) -> None:
        """Wait for what others have written, too: whoever fired a tick may not know how that ended."""
        self.run_written([("confirm", queue, ())] if self._needs_wait() else [])

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

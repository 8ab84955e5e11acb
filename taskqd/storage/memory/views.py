"""Looking at jobs and queues, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from taskqd.jobs.job import State
from taskqd.storage.base import JobRow, QueueRow
from taskqd.storage.memory.state.base import Base
from taskqd.storage.memory.state.line import Job, Line
from taskqd.storage.memory.state.space import Lock, Space
from taskqd.storage.rules import (
    answer_state,
    node_of,
    worker_of,
)


class ViewCalls(Base):
    """The contract's calls that change nothing."""

    def job(self, job_id: str, queue: str | None = None) -> JobRow | None:
        with self._space.lock:
            found = self._space.find(job_id, queue)
            if found is None:
                return None
            line, job = found
            if job.id in line.ended and job.answer_until_ms <= self._space.wall_ms():
                return None
            return _row(job)

    def jobs(self, state: State, queue: str | None = None) -> Iterator[JobRow]:
        with self._space.lock:
            names = self._space.lines if queue is None else (queue,)
            now = self._space.wall_ms()
            rows = [row for line in self._space.some(names) for row in _rows(line, state, now)]
        yield from rows

    def queues(self) -> list[QueueRow]:
        with self._space.lock:
            return [
                QueueRow(
                    line.name,
                    line.ready() + len(line.suspects),
                    len(line.later),
                    sum(map(len, line.held.values())),
                    len(line.dead),
                    line.paused,
                )
                for _, line in sorted(self._space.lines.items())
                if not line.is_empty()
            ]

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        return [list(queues)]

    def epoch(self) -> str:
        return self._space.epoch

    def ping(self) -> None:
        """Memory always serves."""

    def server_ms(self) -> int:
        return self._space.wall_ms()

    def warnings(self) -> list[str]:
        return ["memory storage: jobs live in this process only and are lost with it"]

    def leftovers(self) -> Iterable[str]:
        space = self._space
        with space.lock:
            now = space.wall_ms()
            found = [f"tick {name}@{ms}" for (name, ms), end in space.ticks.items() if end <= now]
            for line in space.lines.values():
                found += [
                    f"answer {job.id} of queue {line.name}"
                    for job in line.ended.values()
                    if job.answer_until_ms <= now
                ]
                found += [
                    f"leases of worker {worker} in queue {line.name}"
                    for worker in line.held
                    if node_of(worker) not in space.nodes
                ]
            found += [
                f"outcomes of {name}" for name in space.effects if node_of(name) not in space.nodes
            ]
            return found + _leftovers(space)


def _row(job: Job) -> JobRow:
    ended = job.state is State.DONE
    return JobRow(
        job.id,
        job.queue,
        answer_state(job.answer) if ended else job.state,
        job.record,
        job.at_ms if job.state in (State.SCHEDULED, State.DEAD) else 0,
        job.worker,
        job.reason if job.state is State.DEAD else "",
        job.answer if job.state in (State.DONE, State.DEAD) else b"",
    )


def _rows(line: Line, state: State, now_ms: int) -> Iterator[JobRow]:
    if state is State.QUEUED:
        yield from map(_row, line.waiting())
    elif state is State.SCHEDULED:
        yield from map(_row, sorted(line.later.values(), key=lambda job: job.at_ms))
    elif state is State.RUNNING:
        yield from (_row(job) for mine in line.held.values() for job in mine.values())
    elif state is State.DEAD:
        yield from map(_row, line.dead.values())
    else:
        rows = (_row(job) for job in line.ended.values() if job.answer_until_ms > now_ms)
        yield from (row for row in rows if row.state is state)


def _leftovers(space: Space) -> list[str]:
    now = space.wall_ms()
    found = [f"mark of worker {worker}" for worker, until in space.gone.items() if until <= now]
    found += [f"order {subject}" for subject, (_, until) in space.orders.items() if until <= now]
    found += [f"rate {key}" for key, rate in space.rates.items() if rate.until_ms <= now]
    found += [f"group {name}" for name, group in space.groups.items() if group.until_ms <= now]
    return found + [
        f"lock {name} of {owner}"
        for name, lock in space.locks.items()
        for owner in lock.holders or ("nobody",)
        if not _lives(space, lock, owner)
    ]


def _lives(space: Space, lock: Lock, owner: str) -> bool:
    _, until = lock.holders.get(owner, (0, 0))
    if until is None:
        return node_of(worker_of(owner)) in space.nodes
    return until > space.lease_ms()

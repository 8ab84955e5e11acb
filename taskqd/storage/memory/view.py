"""Control and introspection of the memory storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from taskqd.jobs.job import State, strip_marks
from taskqd.storage.base import JobRow, QueueRow
from taskqd.storage.memory import features
from taskqd.storage.memory.line import Job, Line
from taskqd.storage.memory.space import Space
from taskqd.storage.rules import answer_state, node_of

WAITING = (State.QUEUED, State.SCHEDULED)


class View:
    """Everything that an operator and a caller of `Result` methods need."""

    namespace: str
    _space: Space

    # -- control ---------------------------------------------------------------------------

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        space = self._space
        with space.lock:
            found = space.find(job_id, queue)
            if found is None or found[1].state not in WAITING:
                return False
            line, job = found
            now = space.wall_ms()
            job.answer, job.answer_until_ms = answer, now + ttl_s * 1000
            line.to_ended(job, now)
            space.answered.notify_all()
            return True

    def reschedule(self, job_id: str, queue: str | None, run_at_ms: int) -> bool:
        space = self._space
        with space.lock:
            found = space.find(job_id, queue)
            if found is None or found[1].state not in WAITING:
                return False
            line, job = found
            space.put(line, job, run_at_ms)
            if job.state is State.QUEUED:
                space.ring(line.name, 1)
            return True

    def revive(self, job_ids: Sequence[str]) -> int:
        space = self._space
        with space.lock:
            found = list(self._dead(job_ids))
            for line, job in found:
                job.record, job.answer, job.reason = strip_marks(job.record), b"", ""
                line.to_tail(job)
                space.ring(line.name, 1)
            return len(found)

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        with self._space.lock:
            found = list(self._dead(job_ids))
            for line, job in found:
                line.to_ended(job, self._space.wall_ms())
            return len(found)

    def _dead(self, job_ids: Sequence[str] | None) -> Iterator[tuple[Line, Job]]:
        for line in self._space.lines.values():
            for job_id in list(line.dead) if job_ids is None else dict.fromkeys(job_ids):
                if job_id in line.dead:
                    yield line, line.dead[job_id]

    def purge_queue(self, queue: str) -> int:
        with self._space.lock:
            gone = [
                (line, job)
                for line in self._space.some([queue])
                for job in line.jobs.values()
                if job.state in WAITING
            ]
            for line, job in gone:
                line.to_nowhere(job)
            return len(gone)

    def pause(self, queue: str) -> None:
        with self._space.lock:
            self._space.line(queue).paused = True

    def resume(self, queue: str) -> None:
        with self._space.lock:
            line = self._space.line(queue)
            line.paused = False
            self._space.ring(queue, line.ready() + len(line.suspects))

    # -- introspection ---------------------------------------------------------------------

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
            return found + features.leftovers(space)

    def close(self) -> None:
        """Jobs stay for other handles of this process."""


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

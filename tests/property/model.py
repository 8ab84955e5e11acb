"""What a storage is, as plainly as it can be said: lists and dictionaries, no time but "soon"."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskqd.jobs.job import Marks, Outcome, Reason, State, join_record, split_record, strip_marks
from taskqd.jobs.states import JobEvent, after
from taskqd.storage.rules import rewrite

_BACK = {
    ("retry", False): JobEvent.RETRIED_NOW,
    ("retry", True): JobEvent.RETRIED_LATER,
    ("requeue", False): JobEvent.REQUEUED_NOW,
    ("requeue", True): JobEvent.REQUEUED_LATER,
}
"""(kind of the outcome, whether it has a delay) -> what happens."""


@dataclass(eq=False)
class ModelJob:
    id: str
    queue: str
    record: bytes
    priority: int
    place: str = "ready"
    """ready, suspects, later, soon, held, dead or ended"""
    state: State | None = None
    """As the table of states has it: `happen` is the only writer."""
    suspect: bool = False
    worker: str = ""
    token: int = 0
    answer: bytes = b""
    notes: dict[str, bytes] = field(default_factory=dict)
    stop: bytes | None = None
    """Asked to stop: the answer that it gets instead of another attempt."""
    unique: str = ""
    until_start: bool = False

    def happen(self, event: JobEvent) -> None:
        """Go on to the state that the table gives.  Raises IllegalMove."""
        self.state = after(self.state, event)

    def let_go(self) -> None:
        self.notes, self.stop, self.unique = {}, None, ""


@dataclass
class ModelQueue:
    paused: bool = False
    ready: list[ModelJob] = field(default_factory=list)
    """In the order of leasing, but for priorities."""
    suspects: list[ModelJob] = field(default_factory=list)
    soon: list[ModelJob] = field(default_factory=list)


class Model:
    def __init__(self, queues: list[str]) -> None:
        self.queues = {name: ModelQueue() for name in queues}
        self.jobs: dict[tuple[str, str], ModelJob] = {}
        self.served: set[str] = set()
        """Nodes that are registered."""
        self.ticks: set[str] = set()

    # -- producers and workers -----------------------------------------------------------------

    def enqueue(self, job: ModelJob, *, later: bool) -> bool:
        if (job.queue, job.id) in self.jobs:
            return False
        if job.unique and self.unique_holder(job.queue, job.unique):
            return False
        self.jobs[job.queue, job.id] = job
        job.happen(JobEvent.ENQUEUED_LATER if later else JobEvent.ENQUEUED_NOW)
        if later:
            job.place = "later"
        else:
            self._put(job)
        return True

    def unique_holder(self, queue: str, key: str) -> str | None:
        here = (job for job in self.jobs.values() if job.queue == queue)
        return next((job.id for job in here if job.unique == key), None)

    def lease(self, worker: str, order: list[str], limit: int, *, alone: bool) -> list[ModelJob]:
        got: list[ModelJob] = []
        for name in order:
            queue = self.queues[name]
            if queue.paused or len(got) >= limit:
                continue
            if alone and not got and queue.suspects:
                got = queue.suspects[:1]
                break
            in_order = sorted(queue.ready, key=lambda job: -job.priority)
            got += in_order[: limit - len(got)]
        for job in got:
            self._take(job)
            job.happen(JobEvent.LEASED)
            job.place, job.worker = "held", worker
            if job.until_start:
                job.unique = ""
        return got

    def holds(self, worker: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.place == "held" and job.worker == worker]

    def settle(self, worker: str, outcomes: list[Outcome]) -> list[bool]:
        current = []
        for end in outcomes:
            job = self.jobs.get((end.queue, end.id))
            held = job is not None and job.place == "held"
            current.append(bool(held and job and (job.worker, job.token) == (worker, end.token)))
        ended = [end for end, effective in zip(outcomes, current, strict=True) if effective]
        for end in ended:
            if not (end.kind == "requeue" and not end.delay_ms):
                self._end(self.jobs[end.queue, end.id], end)
        back = [end for end in ended if end.kind == "requeue" and not end.delay_ms]
        for end in sorted(back, key=lambda end: end.token, reverse=True):
            self._end(self.jobs[end.queue, end.id], end)
        return current

    def _end(self, job: ModelJob, end: Outcome) -> None:
        self._take(job)
        if end.kind in ("retry", "requeue") and job.stop is not None:
            self.finish(job, job.stop, JobEvent.CANCELLED)
        elif end.kind in ("retry", "requeue"):
            job.happen(_BACK[end.kind, end.delay_ms > 0])
            job.record, job.suspect = rewrite(job.record, end.marks), False
            if end.delay_ms > 1000:
                job.place = "later"
            elif end.delay_ms:
                job.place = "soon"
                self.queues[job.queue].soon.append(job)
            else:
                self._put(job, head=end.kind == "requeue")
        elif end.kind == "bury":
            job.happen(JobEvent.BURIED)
            job.record = rewrite(job.record, end.marks)
            job.place, job.answer, job.suspect = "dead", end.answer, False
            job.let_go()
        else:
            self.finish(
                job, end.answer, JobEvent.CANCELLED if end.kind == "cancel" else JobEvent.ACKED
            )

    def finish(self, job: ModelJob, answer: bytes, event: JobEvent) -> None:
        job.happen(event)
        self._take(job)
        job.place, job.answer = "ended", answer
        job.let_go()
        if not answer:
            del self.jobs[job.queue, job.id]

    def release(self, worker: str, jobs: list[ModelJob]) -> None:
        for job in sorted(jobs, key=lambda job: job.token, reverse=True):
            if job.stop is not None:
                self.finish(job, job.stop, JobEvent.CANCELLED)
            else:
                job.happen(JobEvent.RELEASED)
                self._put(job, head=True)

    # -- recovery ------------------------------------------------------------------------------

    def recover(
        self, worker: str, running: set[int] | None, how: str
    ) -> dict[tuple[str, str], tuple[str, Marks, bool]]:
        """Return (queue, id) -> (how, marks, suspect)."""
        held = self.holds(worker)
        started = [job for job in held if running is None or job.token in running]
        found = {}
        for job in sorted(held, key=lambda job: job.token, reverse=True):
            if job.stop is not None:
                self.finish(job, job.stop, JobEvent.CANCELLED)
                continue
            job.happen(JobEvent.RECOVERED)
            marks = split_record(job.record).marks
            what = "released"
            if job in started and how != "released":
                what = how
                crashed = how == Reason.ORPHANED
                marks = Marks(
                    marks.attempts + 1,
                    marks.failures + (how == Reason.TIMEOUT),
                    marks.interruptions + (how == Reason.INTERRUPTED),
                    marks.crashes + crashed,
                    marks.error,
                )
                job.record = join_record(marks, strip_marks(job.record))
                job.suspect = crashed and len(started) > 1
            self._put(job, head=True)
            found[job.queue, job.id] = (what, marks, job.suspect)
        return found

    # -- time and control ----------------------------------------------------------------------

    def promote(self, order: list[tuple[str, str]]) -> None:
        """All that is due soon is queued now, in this order of (queue, id)."""
        for queue in self.queues.values():
            for job in sorted(queue.soon, key=lambda job: order.index((job.queue, job.id))):
                job.happen(JobEvent.DUE)
                self._put(job)

    def is_waiting(self, job: ModelJob | None) -> bool:
        return job is not None and job.place in ("ready", "suspects", "later", "soon")

    def delay(self, job: ModelJob) -> None:
        job.happen(JobEvent.RESCHEDULED_LATER)
        self._take(job)
        job.place, job.suspect = "later", False

    def hurry(self, job: ModelJob) -> None:
        job.happen(JobEvent.RESCHEDULED_NOW)
        self._put(job)

    def revive(self, job: ModelJob) -> None:
        job.happen(JobEvent.REVIVED)
        self._put(job)

    def purge_queue(self, name: str) -> int:
        gone = [job for job in self.jobs.values() if job.queue == name and self.is_waiting(job)]
        for job in gone:
            job.happen(JobEvent.PURGED)
            self._take(job)
            del self.jobs[job.queue, job.id]
        return len(gone)

    # -- places --------------------------------------------------------------------------------

    def _take(self, job: ModelJob) -> None:
        queue = self.queues[job.queue]
        for line in (queue.ready, queue.suspects, queue.soon):
            if job in line:
                line.remove(job)
        job.worker = ""

    def _put(self, job: ModelJob, *, head: bool = False) -> None:
        self._take(job)
        queue = self.queues[job.queue]
        job.place = "suspects" if job.suspect else "ready"
        line = queue.suspects if job.suspect else queue.ready
        line.insert(0 if head else len(line), job)

    def states(self) -> dict[tuple[str, str], str]:
        """Return the state of each job that has not ended."""
        return {key: str(job.state) for key, job in self.jobs.items() if job.place != "ended"}

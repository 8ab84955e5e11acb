"""One queue: which job is where.  No clock, no lock, no I/O."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from taskqd.jobs.job import PRIORITY_MAX, State


class Job:
    """One row.  What it says of `state` is always where its `Line` keeps it."""

    __slots__ = (
        "answer", "answer_until_ms", "at_ms", "called", "id", "notes", "parked", "priority", "queue",
        "reason", "record", "state", "stop", "suspect", "token", "unique", "unique_until", "worker",
    )  # fmt: skip

    def __init__(self, job_id: str, queue: str, record: bytes, priority: int) -> None:
        self.id = job_id
        self.queue = queue
        self.record = record
        self.priority = priority
        self.state = State.QUEUED
        self.suspect = False
        self.worker = ""
        self.token = 0
        self.at_ms = 0
        """scheduled: due at; dead: died at."""
        self.reason = ""
        self.answer = b""
        self.answer_until_ms = 0
        self.notes: dict[str, bytes] = {}
        self.stop: tuple[bytes, int] | None = None
        """Asked to stop: its answer and the answer's lifetime in seconds."""
        self.called = False
        """A lock got free for it in this lease, after it was refused: it is not delayed."""
        self.unique = ""
        self.unique_until = "done"
        self.parked = ""
        """dead: the label under which it waits; changed by its `Line` alone."""


class Line:
    """A queue's jobs, each in exactly one place; every move begins with `_take`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.jobs: dict[str, Job] = {}
        """Every job that is known to this queue, by id."""
        self.lanes: list[OrderedDict[str, Job]] = [OrderedDict() for _ in range(PRIORITY_MAX + 1)]
        self.suspects: OrderedDict[str, Job] = OrderedDict()
        self.later: dict[str, Job] = {}
        self.held: dict[str, dict[str, Job]] = {}
        """Worker -> its jobs, in the order in which it leased them."""
        self.dead: OrderedDict[str, Job] = OrderedDict()
        """Oldest first."""
        self.parked: dict[str, dict[str, Job]] = {}
        """Label -> the letters that wait under it, by id."""
        self.knowers: dict[str, set[str]] = {}
        """Label -> nodes whose workers lease what is parked under it."""
        self.unique: dict[str, str] = {}
        """Key -> id of the job that holds it."""
        self.ended: dict[str, Job] = {}
        self._due: list[tuple[int, int, str]] = []
        self._serial = 0

    # -- moves -----------------------------------------------------------------------------

    def to_tail(self, job: Job) -> None:
        self._take(job)
        job.state = State.QUEUED
        self._lane(job)[job.id] = job

    def clear_of_suspicion(self, job: Job) -> None:
        """Put a suspect to the head of the jobs that are none."""
        self._take(job)
        job.suspect = False
        self._lane(job)[job.id] = job
        self._lane(job).move_to_end(job.id, last=False)

    def to_head(self, job: Job) -> None:
        self.to_tail(job)
        self._lane(job).move_to_end(job.id, last=False)

    def to_later(self, job: Job, run_at_ms: int) -> None:
        self._take(job)
        job.state, job.at_ms, job.suspect = State.SCHEDULED, run_at_ms, False
        self.later[job.id] = job
        self._serial += 1
        heapq.heappush(self._due, (run_at_ms, self._serial, job.id))

    def to_worker(self, job: Job, worker: str, token: int) -> None:
        self._take(job)
        if job.unique_until == "start":
            self._free_key(job)
        job.state, job.worker, job.token, job.called = State.RUNNING, worker, token, False
        self.held.setdefault(worker, {})[job.id] = job

    def to_dead(self, job: Job, reason: str, now_ms: int) -> None:
        self._take(job)
        self._let_all_go(job)
        job.state, job.reason, job.at_ms, job.suspect = State.DEAD, reason, now_ms, False
        self.dead[job.id] = job

    def park(self, job: Job, label: str) -> None:
        """Have a dead letter wait under this label, "" for none."""
        if job.parked:
            waiting = self.parked[job.parked]
            del waiting[job.id]
            if not waiting:
                del self.parked[job.parked]
        job.parked = label
        if label:
            self.parked.setdefault(label, {})[job.id] = job

    def to_ended(self, job: Job, now_ms: int) -> None:
        """Keep the job's answer for its lifetime; without one, forget the job."""
        self._take(job)
        self._let_all_go(job)
        job.record = b""
        if job.answer and job.answer_until_ms > now_ms:
            job.state = State.DONE
            self.ended[job.id] = job
        else:
            del self.jobs[job.id]

    def to_nowhere(self, job: Job) -> None:
        self._take(job)
        self._let_all_go(job)
        del self.jobs[job.id]

    def _take(self, job: Job) -> None:
        """Remove the job from where it is; a new one is nowhere and becomes known."""
        if self.jobs.setdefault(job.id, job) is not job:
            raise AssertionError(f"job {job.id!r} is known already")
        if job.state is State.QUEUED:
            self._lane(job).pop(job.id, None)
        elif job.state is State.SCHEDULED:
            del self.later[job.id]
        elif job.state is State.RUNNING:
            self._let_go(job)
        elif job.state is State.DEAD:
            del self.dead[job.id]
            self.park(job, "")
        else:
            del self.ended[job.id]

    def _let_go(self, job: Job) -> None:
        mine = self.held[job.worker]
        del mine[job.id]
        if not mine:
            del self.held[job.worker]
        job.worker = ""

    def _let_all_go(self, job: Job) -> None:
        """Drop what is kept only for a job that has not ended."""
        job.notes, job.stop = {}, None
        self._free_key(job)

    def _free_key(self, job: Job) -> None:
        if job.unique:
            del self.unique[job.unique]
            job.unique = ""

    def _lane(self, job: Job) -> OrderedDict[str, Job]:
        return self.suspects if job.suspect else self.lanes[job.priority]

    # -- looks -----------------------------------------------------------------------------

    def ready(self) -> int:
        return sum(map(len, self.lanes))

    def first(self) -> Job:
        """Return the job to lease next; there must be one."""
        lane = next(lane for lane in reversed(self.lanes) if lane)
        return next(iter(lane.values()))

    def letters(self, label: str) -> list[Job]:
        """Return the letters under a label, longest parked first."""
        return sorted(self.parked.get(label, {}).values(), key=lambda job: job.at_ms)

    def letters_for(self, node: str) -> list[Job]:
        """Return the letters under all labels that a node knows, in the order of leasing."""
        if not self.parked:
            return []
        known = [name for name in self.parked if node in self.knowers.get(name, ())]
        found = [job for name in known for job in self.letters(name)]
        return sorted(found, key=lambda job: (-job.priority, job.at_ms))

    def forget_knower(self, node: str) -> None:
        for label, nodes in list(self.knowers.items()):
            nodes.discard(node)
            if not nodes:
                del self.knowers[label]

    def waiting(self) -> Iterator[Job]:
        """Iterate over the queued jobs in the order in which they will be leased."""
        yield from self.suspects.values()
        for lane in reversed(self.lanes):
            yield from lane.values()

    def earliest(self) -> Job | None:
        """Return the delayed job that is due first."""
        while self._due:
            run_at_ms, _, job_id = self._due[0]
            job = self.later.get(job_id)
            if job is not None and job.at_ms == run_at_ms:
                return job
            heapq.heappop(self._due)
        return None

    def holding(self, worker: str) -> list[Job]:
        """Return what the worker holds, in the order of its tokens."""
        return list(self.held.get(worker, {}).values())

    def is_empty(self) -> bool:
        return not (self.paused or self.ready() or self.suspects or self.later or self.held
                    or self.dead)  # fmt: skip

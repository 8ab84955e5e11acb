"""One attempt of one job, as it becomes known on its way from the lease to the outcome."""

from __future__ import annotations

from typing import Any

from taskqd.execution.current_job import CurrentJob
from taskqd.execution.protocols import JobView, TaskLike
from taskqd.jobs.end import End, FollowUp, Line
from taskqd.jobs.job import (
    NO_MARKS,
    Answer,
    Envelope,
    Lease,
    Marks,
    encode_answer,
)
from taskqd.jobs.options import TaskOptions

SKIPPED_TTL_S = 300
"""An outcome without a value (skipped, or `store_result=False`) is kept this long: enough to answer
who waits, and to recognise a repeated enqueue."""
_DEFAULTS = TaskOptions()
_UNREADABLE = Envelope(t="")
"""Stands for an envelope that cannot be decoded: of no task, and nothing follows it."""


class Attempt:
    """Made once for a lease; each step of the execution adds what it finds out.

    `task`, `args` and `kwargs` are set only once the job is admitted.  An attempt belongs to the
    slot that runs it.
    """

    __slots__ = (
        "args",
        "envelope",
        "follow_ups",
        "job",
        "kwargs",
        "lease",
        "lines",
        "marks",
        "options",
        "started_s",
        "task",
    )
    task: TaskLike
    args: Any
    kwargs: dict[str, Any]
    job: CurrentJob | None
    """What its task sees of it; None before it has passed its gates."""
    started_s: float
    """Monotonic, when it was admitted."""
    follow_ups: tuple[FollowUp, ...]
    """What its end sets off."""
    lines: tuple[Line, ...]
    """What is to be logged of its end, once that has taken effect."""

    def __init__(
        self,
        lease: Lease,
        envelope: Envelope = _UNREADABLE,
        marks: Marks = NO_MARKS,
        options: TaskOptions = _DEFAULTS,
    ) -> None:
        self.lease = lease
        self.envelope = envelope
        self.marks = marks
        self.options = options
        self.job = None
        self.started_s = 0.0
        self.follow_ups = ()
        self.lines = ()

    def answer_ttl_s(self, default_s: int) -> int:
        """Return how long the job's answer is kept; `default_s`: the app's `result_ttl`."""
        options = self.options
        if not options.store_result:
            return SKIPPED_TTL_S
        return default_s if options.result_ttl is None else options.result_ttl

    def facts(self, number: int) -> dict[str, Any]:
        """Return the keys by which log events name the attempt; `number`: how many it counts as."""
        lease = self.lease
        return {
            "job_id": lease.id,
            "task": self.envelope.t,
            "queue": lease.queue,
            "attempt": number,
        }

    def view(self, reason: str = "") -> JobView:
        """Return what signal handlers get of a job that has not begun."""
        lease, envelope = self.lease, self.envelope
        return JobView(lease.id, envelope.t, lease.queue, self.marks, reason, envelope.h or {})

    def ended(self, kind: str, answer: Answer, marks: Marks = NO_MARKS) -> End:
        """Return what ends the job with this answer."""
        lease = self.lease
        return End(
            lease.id,
            lease.queue,
            lease.token,
            kind,
            encode_answer(answer),
            answer.ttl_s,
            marks=marks,
            reason=str(answer.reason),
            follow_ups=self.follow_ups,
            lines=self.lines,
            lease=lease,
        )

    def back(self, kind: str, reason: str = "", delay_ms: int = 0) -> End:
        """Return what sends the job back to its queue, with its marks."""
        lease = self.lease
        return End(
            lease.id,
            lease.queue,
            lease.token,
            kind,
            delay_ms=delay_ms,
            marks=self.marks,
            reason=reason,
            lines=self.lines,
            lease=lease,
        )

"""What every storage decides alike, as pure functions.

Memory and SQLite call them.  The scripts of Redis tell the same in Lua, held to it by the contract's
tests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from taskqd.errors import ConfigError
from taskqd.jobs.job import (
    NO_MARKS,
    BadRecord,
    Marks,
    Outcome,
    Reason,
    State,
    join_record,
    split_record,
    strip_marks,
)

_decode_head = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ENDED = {state.value: state for state in (State.DONE, State.DEAD, State.CANCELLED)}


def node_of(worker: str) -> str:
    """Return the node id in a worker id, "<node id>.<serial>"."""
    return worker.rpartition(".")[0]


GONE_MS = 3_600_000
"""How long a worker whose jobs were recovered is known to be gone: what it sent last may come late."""


def refusal_of_recovered(worker: str) -> str:
    """Return why a worker whose jobs were recovered leases nothing."""
    return f"worker {worker!r} was taken for dead: its jobs were recovered, and it gets no more"


def refusal_of_unregistered(worker: str, queues: Sequence[str]) -> str:
    """Return why a worker of a node that is not registered for these queues leases nothing."""
    return (
        f"node of worker {worker!r} is not registered for {', '.join(queues)}: its lease "
        "ran out and its jobs were recovered, or it never registered"
    )


def grant(limit: int, ready: int, share: int) -> int:
    """Return how many of `ready` jobs one of `share` workers may lease."""
    return min(limit, max(1, -(-ready // share)))


def answer_state(answer: bytes) -> State:
    """Return the state that an encoded `Answer` tells; DONE where it cannot be read."""
    try:
        return _ENDED.get(msgspec.json.decode(_decode_head(answer)[0], type=str), State.DONE)
    except (msgspec.MsgspecError, ValueError, RecursionError, IndexError):
        return State.DONE


def split_tick(tick: str) -> tuple[str, int]:
    """Return (name, Unix ms) of a tick ``name@ms``."""
    name, at, ms = tick.rpartition("@")
    if not (at and name and ms.isdecimal()):
        raise ConfigError(f"tick {tick!r}: expected NAME@MILLISECONDS")
    return name, int(ms)


class HeldJob(NamedTuple):
    """What the recovery of a leased job depends on."""

    id: str
    token: int
    suspect: bool
    record: bytes


class RecoveredJob(NamedTuple):
    held: HeldJob
    how: str
    marks: Marks
    record: bytes
    suspect: bool


def recover_jobs(
    held: Sequence[HeldJob], running: Collection[int] | None, how: str, verdict: str
) -> list[RecoveredJob]:
    """Decide what becomes of all the jobs that one worker held, in the order given.

    `running`: tokens of those that had started (None: not known, so all).  One running job is
    to blame for the crash; several are suspects, because any of them may be.
    """
    started = [job for job in held if running is None or job.token in running]
    several = how == Reason.ORPHANED and len(started) > 1
    blamed = {job.token for job in started} if how != "released" else set()
    return [
        _counted(job, how, verdict, several)
        if job.token in blamed
        else RecoveredJob(job, "released", marks_of(job.record), job.record, job.suspect)
        for job in held
    ]


def _counted(job: HeldJob, how: str, verdict: str, suspect: bool) -> RecoveredJob:
    try:
        marks = split_record(job.record).marks
    except BadRecord:
        # A damaged record stays as it is: whoever leases it next buries it with its raw bytes.
        return RecoveredJob(job, how, NO_MARKS, job.record, suspect)
    crashed = how == Reason.ORPHANED
    marks = Marks(
        attempts=marks.attempts + 1,
        failures=marks.failures + (how == Reason.TIMEOUT),
        interruptions=marks.interruptions + (how == Reason.INTERRUPTED),
        crashes=marks.crashes + crashed,
        error=verdict or marks.error,
    )
    return RecoveredJob(job, how, marks, join_record(marks, strip_marks(job.record)), suspect)


def marks_of(record: bytes) -> Marks:
    """Return the marks of a record, none of a damaged one."""
    try:
        return split_record(record).marks
    except BadRecord:
        return NO_MARKS


def rewrite(record: bytes, marks: Marks) -> bytes:
    """Return the record after an outcome, with new marks.

    A damaged record stays as it is, so that its dead letter shows the raw bytes.  Crashes are the
    storage's to count: one that was taken back while the worker had the job was an interruption.
    """
    try:
        stored = split_record(record).marks
    except BadRecord:
        return record
    if (fewer := min(marks.crashes - stored.crashes, stored.interruptions)) > 0:
        interruptions = marks.interruptions + fewer
        marks = replace(marks, crashes=marks.crashes - fewer, interruptions=interruptions)
    return join_record(marks, strip_marks(record))


Place = Literal["head", "tail", "later", "dead", "ended"]
"""Where a job goes from a lease: to the head or tail of its queue, delayed, dead or ended."""


def to_head(outcome: Outcome) -> bool:
    """Return whether the job goes back to the head of its queue at once."""
    return outcome.kind == "requeue" and outcome.delay_ms <= 0


def place(outcome: Outcome, *, called: bool) -> Place:
    """Return where the job of an outcome goes from its lease, if it was not asked to stop.

    `called`: a lock got free for it in this lease, after it was refused, so it is not delayed.
    Raises ValueError for an outcome of no known kind.
    """
    if outcome.kind in ("ack", "cancel"):
        return "ended"
    if outcome.kind == "bury":
        return "dead"
    if outcome.kind not in ("retry", "requeue"):
        raise ValueError(f"outcome of job {outcome.id!r}: unknown kind {outcome.kind!r}")
    if to_head(outcome):
        return "head"
    if outcome.delay_ms > 0 and not (called and outcome.kind == "requeue"):
        return "later"
    return "tail"


def heads_last(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes so that those put to the head one by one end in the order of leasing."""
    heads = [outcome for outcome in outcomes if to_head(outcome)]
    if not heads:
        return list(outcomes)
    heads.sort(key=lambda outcome: outcome.token, reverse=True)
    return [outcome for outcome in outcomes if not to_head(outcome)] + heads


def key_of(outcome: Outcome) -> tuple[str, str, int]:
    """Return what identifies the end of a lease by its outcome: (queue, id, token)."""
    return outcome.queue, outcome.id, outcome.token


def release_key(job_id: str, queue: str, token: int) -> tuple[str, str, int]:
    """As `key_of`, for a lease that was released: no outcome of it has taken effect."""
    return queue, job_id, -token


def worker_of(owner: str) -> str:
    """Return the worker id in a lock's owner, "<worker id>#<token>...", "" for other owners."""
    worker, found, _ = owner.partition("#")
    return worker if found and "." in worker else ""


class RateRefusal(NamedTuple):
    """A start that a rate did not count."""

    until_ms: int
    """Unix ms at which the caller is to ask again."""
    wait_ms: int
    """The same from now on, at least 1."""


def rate_window_ms(period_ms: int) -> int:
    """Return how far back a rate looks: its period and a margin, for starts lag behind their count."""
    return period_ms + period_ms // 20 + 20


def rate_decision(
    starts: Sequence[int], told: Collection[int], limit: int, period_ms: int, now_ms: int
) -> RateRefusal | None:
    """Decide whether a rate counts one more start now; None: it does.

    `starts`: the newest starts counted within the window, oldest first, at least `limit` of them
    where there are as many; `told`: the times to come that were told to others who were refused.
    """
    if len(starts) < limit:
        return None
    free_at = starts[-limit] + rate_window_ms(period_ms)
    share_ms = -(-period_ms // limit)
    until_ms = max([free_at, *(at + share_ms for at in told)])
    return RateRefusal(until_ms, max(1, until_ms - now_ms))


def lock_decision(
    holders: Collection[str], owner: str, slots: int, *, is_gone: bool
) -> Literal["held", "free", "full", "gone"]:
    """Decide what a lock says to one who asks for a place.

    "held": it has one already; "free": it gets one; "full": it may stand in line; "gone": its
    worker was taken for dead, and gets none.
    """
    if owner in holders:
        return "held"
    if is_gone:
        return "gone"
    return "full" if len(holders) >= slots else "free"

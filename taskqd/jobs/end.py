"""How an attempt has ended: its outcome, what has to be written before it, what is told after it.

Pure.  Whoever holds an `End` writes its follow-ups, then settles the outcome, then logs its lines:

law: what follows is written before the job is settled, under ids that are fixed beforehand, so that
each step can be repeated (test_retried_stage_goes_on_once).
law: an end that was reached is kept until it is written; the body is not run again for that
(test_a_finished_stage_ran_again_each_second_while_what_follows_could_not_be_written).
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskqd.jobs.job import Entry, Lease, Outcome, decode_answer, encode_answer
from taskqd.logs.events import CATALOGUE

END_NOTE = "end"
"""The note under which an end is kept with its job while what follows cannot be written."""
_OWN_BYTES = 500
"""Of an end whose job has no value and nothing behind it."""
Line = tuple[str, dict[str, Any]]
"""An event of the log and its facts."""


class EnqueueNext(msgspec.Struct, frozen=True, gc=False, tag="enqueue"):
    """The next stage, or an error handler."""

    entry: Entry

    @property
    def queue(self) -> str:
        return self.entry.queue


class ConcludeStage(msgspec.Struct, frozen=True, gc=False, tag="conclude"):
    """The answer of a stage that will never come to be."""

    job_id: str
    queue: str
    answer: bytes
    ttl_s: int


class CountMember(msgspec.Struct, frozen=True, gc=False, tag="count"):
    """The answer of a group's member; the last one enqueues the callback."""

    group: str
    queue: str
    index: int
    answer: bytes


class ShortenGroup(msgspec.Struct, frozen=True, gc=False, tag="shorten"):
    """The callback has the answers of this group."""

    group: str
    queue: str
    ttl_s: int


FollowUp = EnqueueNext | ConcludeStage | CountMember | ShortenGroup
"""Each can be written again and again: the first time counts."""


class End(Outcome, frozen=True, gc=False):
    """The outcome of one attempt, as its worker holds it; a storage sees the outcome only."""

    follow_ups: tuple[FollowUp, ...] = ()
    """To be written before the outcome is settled."""
    lines: tuple[Line, ...] = ()
    """To be logged once the outcome has taken effect."""
    lease: Lease | None = None
    """What has ended; None in one that was kept with its job and read again."""

    @property
    def size_bytes(self) -> int:
        """Return about how much memory it takes while it is kept."""
        size = _OWN_BYTES + len(self.answer)
        for step in self.follow_ups:
            size += len(step.entry.payload) if isinstance(step, EnqueueNext) else 100
            size += len(step.answer) if isinstance(step, ConcludeStage | CountMember) else 0
        return size


def follow_ups_of(outcome: Outcome) -> tuple[FollowUp, ...]:
    return outcome.follow_ups if isinstance(outcome, End) else ()


def lines_of(outcome: Outcome) -> tuple[Line, ...]:
    return outcome.lines if isinstance(outcome, End) else ()


_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode = msgspec.json.Decoder(End).decode


def encode_end(end: End) -> bytes:
    """Return it as JSON, without its lease."""
    return _encode(msgspec.structs.replace(end, lease=None))


def resumed_end(data: bytes, lease: Lease) -> End | None:
    """Return an end that was kept with its job, as that of `lease`; None: it cannot be one.

    Who can write into the storage may have written it: nothing in it is more than what such a one
    could write elsewhere.
    """
    try:
        end = _decode(data)
        answer = decode_answer(end.answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if end.kind not in ("ack", "bury", "cancel"):
        return None
    return msgspec.structs.replace(
        end,
        id=lease.id,
        queue=lease.queue,
        token=lease.token,
        answer=encode_answer(msgspec.structs.replace(answer, token=lease.token)),
        lines=tuple(line for line in end.lines if line[0] in CATALOGUE),
        lease=lease,
    )

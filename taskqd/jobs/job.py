"""A job's values.  Pure: no clock, no I/O.

What a storage keeps of a job is one *record*, a few lines of text:

    [marks LF] payload [LF signature]

`payload`    the envelope as one line of JSON, written once by the caller; begins with ``{``.
`marks`      what has happened to the job so far, one line of JSON; begins with ``[``; absent for
             a job that nothing has happened to (almost all of them).
`signature`  ``key-id:hex``, where the app has signing keys.

So a storage can update the marks without touching (or understanding) the payload, and any tool can
read an envelope without the user's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

PRIORITY_MAX = 9
ID_PATTERN = re.compile(r"[A-Za-z0-9_.:@/+-]{1,64}")
NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Names of apps (namespaces) and queues."""


class State(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a job was given up (dead), went back to its queue, or was cancelled."""

    # dead
    FAILED = "failed"
    """Its task raised and no retry is left."""
    TIMEOUT = "timeout"
    POISONED = "poisoned"
    """Its worker died `max_crashes` times while running it."""
    INTERRUPTIONS = "interruptions"
    """Interrupted more often than `max_interruptions`."""
    UNKNOWN_TASK = "unknown"
    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    """Its arguments do not fit the task's signature any more."""
    UNSIGNED = "unsigned"
    """Unsigned, or signed with a key that is not known."""
    UNREADABLE = "unreadable"
    """Its arguments cannot be decrypted or unpickled, or are plain where the app encrypts."""
    OVERSIZED = "oversized"
    LOST = "lost"
    """Declared `at_most_once`, and its worker died while running it."""
    # requeued
    INTERRUPTED = "interrupted"
    ORPHANED = "orphaned"
    LOCKED = "locked"
    RATE_LIMITED = "rate-limited"
    # cancelled
    CANCELLED = "cancelled"
    REVOKED = "revoked"
    EXPIRED = "expired"
    SKIPPED = "skipped"


class Marks(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What has happened to a job before its current attempt.  One JSON array in the record."""

    attempts: int = 0
    """Starts so far, however they ended."""
    failures: int = 0
    """Attempts that raised; counted against `retries`."""
    interruptions: int = 0
    """Attempts stopped with their worker; counted against `max_interruptions`."""
    crashes: int = 0
    """Attempts whose worker died; counted against `max_crashes`."""
    error: str = ""
    """The last error, or the verdict of the last dead worker: one line of at most 500 characters.

    Below a verdict stand the stacks of that worker, and in a dead letter the traceback.
    """


NO_MARKS = Marks()


NOTHING = msgspec.Raw()
"""The default of raw fields: left out of the JSON, and false."""


class Stage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A job that another one enqueues when it ends: the next of a pipeline, or its error handler."""

    id: str
    queue: str
    delay_ms: int
    envelope: msgspec.Raw


class Member(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Membership of a group: where the job's answer is counted."""

    group: str
    queue: str
    index: int


class Envelope(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One job as its caller wrote it.  Field names are short: a million of these wait in memory.

    law: `p` is declared first and left out at 0, so a storage can read a priority from the fixed
    prefix ``{"p":N`` without decoding (test_priority_stands_at_the_fixed_front_of_a_payload).
    """

    p: int = 0
    """priority, 0 to 9, higher first"""
    v: int = 1
    """version of this layout"""
    t: str
    """task name"""
    a: msgspec.Raw = NOTHING
    """positional arguments, a JSON array"""
    k: msgspec.Raw = NOTHING
    """keyword arguments, a JSON object"""
    e: int = 0
    """enqueued at, Unix ms"""
    x: int | None = None
    """expires at, Unix ms"""
    s: int | None = None
    """the tick of a periodic task, Unix ms"""
    o: dict[str, Any] | None = None
    """options given for this call only, by the names of `@task`"""
    h: dict[str, str] | None = None
    """headers that travel with the job (trace context)"""
    n: list[Stage] | None = None
    """the stages that follow in a pipeline"""
    f: Stage | None = None
    """the job to enqueue if this one, or one that follows, ends without a value"""
    g: Member | None = None
    """the group that this job (or the last stage that follows it) is a member of"""
    c: str | None = None
    """the group whose answers are this job's first argument (a chord's callback)"""
    b: str | None = None
    """opaque body that replaces `a` and `k` (pickled or encrypted), base64"""
    z: str | None = None
    """how `b` is encoded: "pickle", "aes" or "pickle+aes"; None: not used"""


class Entry(NamedTuple):
    """A job on its way into a storage."""

    id: str
    queue: str
    payload: bytes
    """The payload line, with its signature line where the app signs."""
    run_at_ms: int = 0
    """Unix ms; 0: now."""
    priority: int = 0
    fresh: bool = True
    """False: an id that may be known already (given by the user, a tick, or a repeat)."""
    unique: str = ""
    """At most one job of this key at a time in its queue; "": no such limit."""
    unique_until: str = "done"
    """"done", or "start": the key is free again when the job first starts."""


class Lease(msgspec.Struct, frozen=True, gc=False):
    """An exclusive hold of one worker on one job, as a storage grants it."""

    id: str
    queue: str
    token: int
    """Fencing token: greater than that of every earlier lease of this job."""
    record: bytes
    alone: bool = False
    """A suspect: its worker must run nothing beside it."""


class Record(NamedTuple):
    marks: Marks
    payload: bytes
    signature: bytes | None


class BadRecord(ValueError):
    """The record does not have the shape that this module describes."""


_decode_marks = msgspec.json.Decoder(Marks).decode
_encode = msgspec.json.Encoder().encode


def split_record(record: bytes) -> Record:
    """Split a storage's record into marks, payload and signature.

    Raises BadRecord where it is not one; the caller buries the job with the raw bytes.
    """
    if record[:1] == b"{" and b"\n" not in record:
        return Record(NO_MARKS, record, None)
    lines = record.split(b"\n")
    marks = NO_MARKS
    if lines[0][:1] == b"[":
        try:
            marks = _decode_marks(lines.pop(0))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadRecord(f"marks: {error}") from None
    if not 1 <= len(lines) <= 2 or lines[0][:1] != b"{":
        raise BadRecord("no payload line that begins with '{'")
    return Record(marks, lines[0], lines[1] if len(lines) == 2 else None)


def join_record(marks: Marks, rest: bytes) -> bytes:
    """Return the record for `marks` and `rest` (payload line with its signature line, if any)."""
    return rest if marks == NO_MARKS else _encode(marks) + b"\n" + rest


def strip_marks(record: bytes) -> bytes:
    """Return the record without its marks line, whatever else it holds."""
    if record[:1] == b"[":
        _head, newline, rest = record.partition(b"\n")
        return rest if newline else record
    return record


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a lease ends; what a worker gives to `Storage.settle`."""

    id: str
    queue: str
    token: int
    kind: str
    """"ack", "retry", "requeue", "bury" or "cancel"."""
    answer: bytes = b""
    """ack, bury, cancel: the encoded `Answer` kept for whoever asks for the result."""
    answer_ttl_s: int = 300
    delay_ms: int = 0
    """retry, requeue: not before so many ms from now (0: at once; a requeue goes to the head)."""
    marks: Marks = NO_MARKS
    """retry, requeue, bury: what the record shall say from now on."""
    reason: str = ""
    """requeue, bury, cancel: a `Reason`."""
    parked: str = ""
    """bury: the letter waits under this label; see `Features.parked`."""


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """An exception as data.  Class names are text and are never imported."""

    type_name: str
    message: str
    traceback: str = ""


class Answer(msgspec.Struct, array_like=True, frozen=True, omit_defaults=False):
    """What a caller gets to know of an ended job; compact: 16 of them share a small hash in Redis."""

    state: str
    """"done", "dead" or "cancelled"."""
    token: int
    """Token of the lease that ended it (0: it was never leased)."""
    finished_ms: int
    ttl_s: int
    """Kept for so long after `finished_ms`; a reader treats an older one as absent."""
    attempts: int = 1
    run_ms: float = 0
    value: msgspec.Raw = msgspec.Raw(b"null")
    reason: str = ""
    failure: Failure | None = None


encode_answer: Callable[[Answer], bytes] = _encode
decode_answer: Callable[[bytes], Answer] = msgspec.json.Decoder(Answer).decode
"""Raises msgspec.MsgspecError, ValueError or RecursionError on damaged bytes."""


def clip(text: str, chars: int = 500) -> str:
    """Return `text` on one line, cut to `chars`."""
    line = " ".join(text.split())
    return line if len(line) <= chars else line[: chars - 1] + "…"

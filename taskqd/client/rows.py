"""Jobs, queues and nodes as rows for people and tools: plain values, times in ISO 8601, no user code.

A record that cannot be decoded is a row too, with the reason "undecodable" and its size.  Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from taskqd.jobs.job import (
    Answer,
    BadRecord,
    Envelope,
    Marks,
    Reason,
    State,
    decode_answer,
    split_record,
)
from taskqd.storage.base import JobRow, NodeRow, QueueRow
from taskqd.storage.features import LockRow
from taskqd.urls import mask_url

_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_any = msgspec.json.Decoder().decode
_DAMAGE = (msgspec.MsgspecError, ValueError, RecursionError)


class OpenedRecord(msgspec.Struct, frozen=True):
    """What a record says; without an envelope it cannot be decoded, and `damage` says why."""

    marks: Marks = Marks()
    envelope: Envelope | None = None
    damage: str = ""


def open_record(record: bytes) -> OpenedRecord:
    """Never raises."""
    try:
        marks, payload, _signature = split_record(record)
    except BadRecord as error:
        return OpenedRecord(damage=str(error))
    try:
        return OpenedRecord(marks, _decode_envelope(payload))
    except _DAMAGE as error:
        return OpenedRecord(marks, damage=f"payload: {error}")


def task_of(row: JobRow) -> str:
    """Return the task's name, "" where the row does not tell it."""
    envelope = open_record(row.record).envelope if row.record else None
    return envelope.t if envelope else ""


def job_row(row: JobRow) -> dict[str, Any]:
    """Return one job on one line: what `taskqctl job ls` and `dead ls` show."""
    answer = open_answer(row.answer)
    if row.record:
        return _row_of_record(row, open_record(row.record), answer)
    return _row_of_answer(row, answer)


def describe(row: JobRow, answer: bytes | None = None) -> dict[str, Any]:
    """Return all that is known of one job.  `answer`: its encoded answer, where the row has none."""
    known = open_answer(row.answer or answer or b"")
    details = job_row(row._replace(answer=row.answer or answer or b""))
    if row.record:
        opened = open_record(row.record)
        details |= _call_of(opened)
        details["payload"] = row.record.decode(errors="backslashreplace")
        details["traceback"] = opened.marks.error.partition("\n")[2]
    if known:
        details |= _result_of(known)
    return details


def queue_row(row: QueueRow) -> dict[str, Any]:
    return {"queue": row.name} | {name: getattr(row, name) for name in QueueRow._fields[1:]}


def node_row(row: NodeRow) -> dict[str, Any]:
    return {
        "id": row.node.id,
        "name": row.node.name,
        "host": row.node.host,
        "pid": row.node.pid,
        "expires_in_s": round(row.expires_in_s, 3),
        "workers": sum(map(bool, row.workers.values())),
        "held": sum(row.workers.values()),
        "info": {name: mask_url(text) for name, text in row.node.info.items()},
    }


def lock_row(row: LockRow) -> dict[str, Any]:
    left = row.expires_in_s
    return row._asdict() | {"expires_in_s": None if left is None else round(left, 3)}


def open_answer(data: bytes) -> Answer | None:
    """Return the answer, None where there is none or it is damaged."""
    try:
        return decode_answer(data) if data else None
    except _DAMAGE:
        return None


def iso(unix_ms: int | None) -> str | None:
    """Return 2026-01-31T12:00:00.000Z, None for 0 and for None."""
    if not unix_ms:
        return None
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        # A time out of reach comes from a damaged or hostile payload; the number still tells.
        return str(unix_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row_of_record(row: JobRow, opened: OpenedRecord, answer: Answer | None) -> dict[str, Any]:
    envelope, marks = opened.envelope, opened.marks
    dead = row.state is State.DEAD
    fields = {
        "id": row.id,
        "task": envelope.t if envelope else None,
        "queue": row.queue,
        "state": str(row.state),
        "reason": row.reason or ("" if envelope else str(Reason.UNDECODABLE)),
        "error": _error(marks, answer) or opened.damage,
        "attempts": marks.attempts,
        "failures": marks.failures,
        "interruptions": marks.interruptions,
        "crashes": marks.crashes,
        "priority": envelope.p if envelope else None,
        "worker": row.worker,
        "enqueued_at": iso(envelope.e if envelope else None),
        "run_at": None if dead else iso(row.run_at_ms),
        "finished_at": iso(row.run_at_ms) if dead else None,
    }
    return fields if envelope else fields | {"raw_bytes": len(row.record)}


def _row_of_answer(row: JobRow, answer: Answer | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "task": None,
        "queue": row.queue,
        "state": str(row.state),
        "reason": row.reason or (answer.reason if answer else ""),
        "error": _error(Marks(), answer),
        "attempts": answer.attempts if answer else None,
        "failures": None,
        "interruptions": None,
        "crashes": None,
        "priority": None,
        "worker": row.worker,
        "enqueued_at": None,
        "run_at": None,
        "finished_at": iso(answer.finished_ms if answer else row.run_at_ms),
    }


def _error(marks: Marks, answer: Answer | None) -> str:
    if answer and answer.failure:
        return f"{answer.failure.type_name}: {answer.failure.message}".removeprefix(": ")
    return marks.error.partition("\n")[0]


def _call_of(opened: OpenedRecord) -> dict[str, Any]:
    envelope = opened.envelope
    if envelope is None:
        return {}
    sealed: dict[str, Any] = {"args": None, "kwargs": None, "sealed": envelope.z}
    plain = {"args": _value(envelope.a, []), "kwargs": _value(envelope.k, {})}
    return (plain if envelope.z is None else sealed) | {
        "options": envelope.o or {},
        "headers": envelope.h or {},
        "expires_at": iso(envelope.x),
        "tick": iso(envelope.s),
    }


def _result_of(answer: Answer) -> dict[str, Any]:
    failure = answer.failure
    return {
        "run_ms": answer.run_ms,
        "result": _value(answer.value, None) if answer.state == State.DONE else None,
        "result_ttl_s": answer.ttl_s,
        "traceback": failure.traceback if failure else "",
    }


def _value(raw: msgspec.Raw, absent: Any) -> Any:
    """Decode raw JSON; what is no JSON comes back as its text."""
    data = bytes(raw)
    try:
        return _decode_any(data) if data else absent
    except _DAMAGE:
        return data.decode(errors="backslashreplace")

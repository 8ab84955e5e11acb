"""From a call to the entry that a storage takes, and back from a lease to the call."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec

from taskqd.clock import now_ms
from taskqd.errors import ConfigError, DecodeError, PayloadTooLarge
from taskqd.ids import new_id
from taskqd.job import ID_PATTERN, NOTHING, Entry, Envelope, Marks, split_record
from taskqd.options import CARRIED
from taskqd.signing import Signer
from taskqd.task import Signature

VERSION = 1
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode


def pack(
    signature: Signature[Any],
    *,
    namespace: str,
    signer: Signer | None,
    zone: tzinfo,
    payload_bytes_max: int,
    tick_ms: int | None = None,
) -> Entry:
    """Encode one call.  Raises BadArguments, EncodeError, PayloadTooLarge or ConfigError."""
    task, options = signature.task, signature.options
    now = now_ms()
    positional, keyword = task.codec.encode_call(signature.args, signature.kwargs)
    expires = options.get("expires", task.settings.expires)
    priority = options.get("priority", task.settings.priority)
    envelope = Envelope(
        p=priority,
        t=task.name,
        a=NOTHING if positional is None else msgspec.Raw(positional),
        k=NOTHING if keyword is None else msgspec.Raw(keyword),
        e=now,
        x=None if expires is None else moment_ms(expires, now, zone),
        s=tick_ms,
        o={k: v for k, v in options.items() if k in CARRIED} or None,
    )
    job_id = checked_id(options["id"]) if options.get("id") is not None else new_id()
    queue = options.get("queue") or task.settings.queue
    payload = _encode(envelope)
    if len(payload) > payload_bytes_max:
        raise PayloadTooLarge(
            f"{task.name}: the payload has {len(payload)} bytes; at most {payload_bytes_max}"
            " (limits.payload_bytes_max); pass a reference to large data instead"
        )
    if signer is not None:
        payload += b"\n" + signer.sign(namespace, queue, job_id, payload)
    return Entry(
        job_id, queue, payload, _run_at_ms(options, now, zone), priority, "id" not in options
    )


def _run_at_ms(options: dict[str, Any], now: int, zone: tzinfo) -> int:
    if options.get("delay") is not None:
        return max(0, moment_ms(options["delay"], now, zone)) if options["delay"] > 0 else 0
    if options.get("eta") is not None:
        run_at = moment_ms(options["eta"], now, zone, absolute=True)
        return run_at if run_at > now else 0
    return 0


def moment_ms(value: Any, now: int, zone: tzinfo, *, absolute: bool = False) -> int:
    """Return the Unix ms of a datetime (naive: in `zone`), a timedelta or a number.

    Numbers are seconds from now, or Unix seconds where `absolute`.
    """
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=zone)
        return round(aware.timestamp() * 1000)
    if isinstance(value, timedelta):
        return now + round(value.total_seconds() * 1000)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * 1000) + (0 if absolute else now)
    raise ConfigError(f"{value!r}: expected a datetime, a timedelta or a number of seconds")


def checked_id(job_id: Any) -> str:
    if isinstance(job_id, str) and ID_PATTERN.fullmatch(job_id):
        return job_id
    raise ConfigError(f"id = {job_id!r}: expected 1 to 64 characters of {ID_PATTERN.pattern[:-6]}")


class Unpacked(msgspec.Struct, frozen=True, gc=False):
    marks: Marks
    envelope: Envelope


def unpack(
    record: bytes, *, namespace: str, queue: str, job_id: str, signer: Signer | None
) -> Unpacked:
    """Decode a record without the user's code.

    Raises BadRecord or DecodeError where it is damaged or too new, SignatureError where the app
    signs and the signature is not right.
    """
    marks, payload, signature = split_record(record)
    if signer is not None:
        signer.verify(namespace, queue, job_id, payload, signature)
    try:
        envelope = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(f"payload: {error}") from None
    if envelope.v > VERSION:
        raise DecodeError(f"payload: version {envelope.v}; this taskqd reads up to {VERSION}")
    return Unpacked(marks, envelope)

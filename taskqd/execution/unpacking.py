"""From the record of a lease back to the call that it holds; nothing here runs a user's code."""

from __future__ import annotations

import msgspec

from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, DecodeError
from taskqd.ids import checked_id
from taskqd.jobs.job import NO_MARKS, Envelope, Marks, split_record
from taskqd.jobs.options import CARRIED, SECONDS_MAX, TaskOptions, check_values

VERSION = 1
_MEMBERS_MAX = 2**31
_DELAY_MS_MAX = SECONDS_MAX * 1000
_decode = msgspec.json.Decoder(Envelope).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_dict = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


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
    marks, payload, signature = NO_MARKS, record, None  # which is almost all of them
    if record[:1] != b"{" or b"\n" in record:
        marks, payload, signature = split_record(record)
    if signer is not None:
        signer.verify(namespace, queue, job_id, payload, signature)
    try:
        envelope = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(f"payload: {error}") from None
    if envelope.v > VERSION:
        raise DecodeError(f"payload: version {envelope.v}; this taskqd reads up to {VERSION}")
    if envelope.o is not None or envelope.n is not None or envelope.f is not None or envelope.g:
        try:
            _check(envelope)
        except (ConfigError, msgspec.MsgspecError, ValueError) as error:
            raise DecodeError(f"payload: {error}") from None
    return Unpacked(marks, envelope)


def _check(envelope: Envelope) -> None:
    """Raise for what would go wrong only later: options of the call, and what follows the job."""
    if envelope.o is not None:
        check_values({k: v for k, v in envelope.o.items() if k in CARRIED})
    if envelope.g is not None:
        check_values({"queue": envelope.g.queue})
        checked_id(envelope.g.group)
        if not 0 <= envelope.g.index < _MEMBERS_MAX:
            raise ConfigError(f"member {envelope.g.index} of a group: no such place")
    for stage in (*(envelope.n or ()), *((envelope.f,) if envelope.f is not None else ())):
        checked_id(stage.id)
        later = _decode(stage.envelope)
        check_values({"queue": stage.queue, "priority": later.p})
        _raw_list(later.a or b"[]")
        _raw_dict(later.k or b"{}")
        if not 0 <= stage.delay_ms <= _DELAY_MS_MAX:
            raise ConfigError(f"stage {later.t!r}: a delay of {stage.delay_ms} ms")


def call_options(settings: TaskOptions, envelope: Envelope) -> TaskOptions:
    """Return the task's options with those of this call on top."""
    if envelope.o is None:
        return settings
    known = {k: v for k, v in envelope.o.items() if k in CARRIED}
    return msgspec.structs.replace(settings, **known)

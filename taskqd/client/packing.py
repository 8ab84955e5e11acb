"""From a call to the entry that a storage takes, and back from a lease to the call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec

from taskqd.client.task import Signature
from taskqd.clock import now_ms
from taskqd.crypto.sealing import Call, Vault
from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, DecodeError, PayloadTooLarge
from taskqd.ids import new_id
from taskqd.jobs.job import (
    ID_PATTERN,
    NO_MARKS,
    Entry,
    Envelope,
    Marks,
    Member,
    Stage,
    split_record,
)
from taskqd.jobs.options import CARRIED, SECONDS_MAX, TaskOptions, check_values

VERSION = 1
_MEMBERS_MAX = 2**31
_DELAY_MS_MAX = SECONDS_MAX * 1000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Envelope).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_dict = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Packer:
    """Encodes calls of one app."""

    def __init__(
        self, namespace: str, signer: Signer | None, zone: tzinfo, vault: Vault | None = None
    ) -> None:
        self._vault = vault
        self._namespace = namespace
        self._signer = signer
        self._zone = zone
        self.payload_bytes_max = 0

    def pack(
        self,
        signature: Signature[Any],
        *,
        tick_ms: int | None = None,
        member: Member | None = None,
        group: str | None = None,
        ids: list[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Entry:
        """Encode one call, with the stages that follow it.

        `headers`: for a call without any of its own.  `member`: the group that its last stage is
        counted in.  `group`: its first argument is that group's answers.  `ids`: gets the ids of
        all stages, the first one's first.
        Raises BadArguments, EncodeError, PayloadTooLarge or ConfigError.
        """
        now, options = now_ms(), signature.options
        job_id = self._id_of(signature)
        if ids is not None:
            ids.append(job_id)
        envelope = self._envelope(signature, job_id, now, tick_ms)
        if member is not None:
            envelope.g = member
        if group is not None:
            envelope.c = group
        if headers is not None and envelope.h is None:
            envelope.h = dict(headers)
        if signature.stages or signature.handler is not None:
            self._chain(envelope, signature, now, ids)
        entry = self.seal(
            envelope,
            job_id,
            options.get("queue") or signature.task.settings.queue,
            _run_at_ms(options, now, self._zone) if options else 0,
            fresh="id" not in options,
        )
        if signature.task.settings.unique is None:
            return entry
        key, until = unique_key(signature, envelope, self._vault)
        return entry._replace(unique=key, unique_until=until)

    def _chain(
        self, envelope: Envelope, signature: Signature[Any], now: int, ids: list[str] | None
    ) -> None:
        stages = [self._stage(stage, now) for stage in signature.stages]
        envelope.n = stages or None
        envelope.f = None if signature.handler is None else self._stage(signature.handler, now)
        if ids is not None:
            ids += [stage.id for stage in stages]

    def seal(
        self,
        envelope: Envelope,
        job_id: str,
        queue: str,
        run_at_ms: int = 0,
        *,
        fresh: bool = False,
    ) -> Entry:
        """Return the entry of an envelope: checked, and signed where the app signs."""
        payload = _encode(envelope)
        if len(payload) > self.payload_bytes_max:
            raise PayloadTooLarge(
                f"{envelope.t}: the payload has {len(payload)} bytes; at most"
                f" {self.payload_bytes_max} (limits.payload_bytes_max); pass a reference to"
                " large data instead"
            )
        if self._signer is not None:
            payload += b"\n" + self._signer.sign(self._namespace, queue, job_id, payload)
        return Entry(job_id, queue, payload, run_at_ms, envelope.p, fresh)

    def _envelope(
        self, signature: Signature[Any], job_id: str, now: int, tick_ms: int | None
    ) -> Envelope:
        task, options = signature.task, signature.options
        expires = options.get("expires", task.settings.expires)
        # Most calls have few of the fields: what is given is set, one by one.
        envelope = Envelope(
            p=options.get("priority", task.settings.priority), t=task.name, e=now, s=tick_ms
        )
        if self._vault is None:
            encode = task.codec.encode_partial if signature.partial else task.codec.encode_call
            positional, keyword = encode(signature.args, signature.kwargs)
            if positional is not None:
                envelope.a = msgspec.Raw(positional)
            if keyword is not None:
                envelope.k = msgspec.Raw(keyword)
        else:
            self._vault.close_call(envelope, job_id, _call_of(signature, self._vault))
        if expires is not None:
            envelope.x = moment_ms(expires, now, self._zone)
        if options:
            envelope.o = {k: v for k, v in options.items() if k in CARRIED} or None
            envelope.h = dict(options.get("headers") or ()) or None
        return envelope

    def _stage(self, signature: Signature[Any], now: int) -> Stage:
        options = signature.options
        run_at_ms = _run_at_ms(options, now, self._zone)
        job_id = self._id_of(signature)
        return Stage(
            job_id,
            options.get("queue") or signature.task.settings.queue,
            max(0, run_at_ms - now),
            msgspec.Raw(_encode(self._envelope(signature, job_id, now, None))),
        )

    @staticmethod
    def _id_of(signature: Signature[Any]) -> str:
        given = signature.options.get("id")
        return new_id() if given is None else checked_id(given)


def _call_of(signature: Signature[Any], vault: Vault) -> Call:
    """Return the arguments of a call, checked, for the vault."""
    codec, args, kwargs = signature.task.codec, signature.args, signature.kwargs
    if vault.pickles:
        codec.check(args, kwargs, partial=signature.partial)
        return Call(args, kwargs, pickled=True)
    encode = codec.encode_partial if signature.partial else codec.encode_call
    positional, keyword = encode(args, kwargs)
    return Call(positional or b"", keyword or b"", pickled=False)


def unique_key(
    signature: Signature[Any], envelope: Envelope, vault: Vault | None = None
) -> tuple[str, str]:
    """Return the key of a unique job, and until when it is held ("done" or "start").

    The option is "task", "args" or a template like "user:{user_id}", each with " until start" or
    " until done" after it, as the user likes.
    """
    task = signature.task
    what, _, until = (task.settings.unique or "").partition(" until ")
    if until not in ("", "start", "done"):
        raise ConfigError(
            f"unique = {task.settings.unique!r}: expected 'until start' or 'until done'"
        )
    if what == "task":
        key = envelope.t
    elif what == "args" and vault is not None:
        key = f"{envelope.t}:{vault.fingerprint(_call_of(signature, vault))}"
    elif what == "args":
        digest = hashlib.sha256(bytes(envelope.a) + b"\n" + bytes(envelope.k)).hexdigest()[:32]
        key = f"{envelope.t}:{digest}"
    else:
        key = task.codec.fill(what, signature.args, signature.kwargs)
    return key, until or "done"


def _run_at_ms(options: dict[str, Any], now: int, zone: tzinfo) -> int:
    if options.get("delay") is not None:
        run_at = moment_ms(options["delay"], now, zone)
        return run_at if run_at > now else 0
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

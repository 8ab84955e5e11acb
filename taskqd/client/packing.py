"""From a call to the entry that a storage takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

import msgspec

from taskqd.client.delivery import insist
from taskqd.client.task import Signature
from taskqd.clock import StorageClock, moment_ms
from taskqd.crypto.sealing import Call, Sealer
from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, PayloadTooLarge
from taskqd.ids import checked_id, new_id
from taskqd.jobs.job import Entry, Envelope, Member, Stage
from taskqd.jobs.options import CARRIED

_encode = msgspec.json.Encoder().encode


class Packer:
    """Encodes calls of one app."""

    def __init__(
        self,
        namespace: str,
        signer: Signer | None,
        zone: tzinfo,
        clock: StorageClock,
        sealer: Sealer | None = None,
    ) -> None:
        self._clock = clock
        self._sealer = sealer
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
        now, options = self._now_ms(signature), signature.options
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
        entry = self.make_entry(
            envelope,
            job_id,
            options.get("queue") or signature.task.settings.queue,
            _run_at_ms(options, now, self._zone) if options else 0,
            fresh="id" not in options,
        )
        if signature.task.settings.unique is None:
            return entry
        key, until = unique_key(signature, envelope, self._sealer)
        return entry._replace(unique=key, unique_until=until)

    def _now_ms(self, signature: Signature[Any]) -> int:
        """Return the storage's time; a call that is due or over at some time is worth asking it.

        law: what a caller's host takes for the time decides nothing
        (test_a_caller_whose_clock_is_off_delays_and_expires_by_the_storages).
        """
        followers = (*signature.stages, *(() if (h := signature.handler) is None else (h,)))
        if any(map(_is_timed, (signature, *followers))):
            return insist(self._clock.now_ms)
        return self._clock.estimate_ms()

    def _chain(
        self, envelope: Envelope, signature: Signature[Any], now: int, ids: list[str] | None
    ) -> None:
        stages = [self._stage(stage, now) for stage in signature.stages]
        envelope.n = stages or None
        envelope.f = None if signature.handler is None else self._stage(signature.handler, now)
        if ids is not None:
            ids += [stage.id for stage in stages]

    def make_entry(
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
        if self._sealer is None:
            encode = task.codec.encode_partial if signature.partial else task.codec.encode_call
            positional, keyword = encode(signature.args, signature.kwargs)
            if positional is not None:
                envelope.a = msgspec.Raw(positional)
            if keyword is not None:
                envelope.k = msgspec.Raw(keyword)
        else:
            self._sealer.seal_call(envelope, job_id, _call_of(signature, self._sealer))
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


def _is_timed(signature: Signature[Any]) -> bool:
    options = signature.options
    return signature.task.settings.expires is not None or not options.keys().isdisjoint(
        ("delay", "eta", "expires")
    )


def _call_of(signature: Signature[Any], sealer: Sealer) -> Call:
    """Return the arguments of a call, checked, for the sealer."""
    codec, args, kwargs = signature.task.codec, signature.args, signature.kwargs
    if sealer.pickles:
        codec.check(args, kwargs, partial=signature.partial)
        return Call(args, kwargs, pickled=True)
    encode = codec.encode_partial if signature.partial else codec.encode_call
    positional, keyword = encode(args, kwargs)
    return Call(positional or b"", keyword or b"", pickled=False)


def unique_key(
    signature: Signature[Any], envelope: Envelope, sealer: Sealer | None = None
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
    elif what == "args" and sealer is not None:
        key = f"{envelope.t}:{sealer.fingerprint(_call_of(signature, sealer))}"
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

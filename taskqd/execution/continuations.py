"""What the end of a job sets off: the next stage, the error handler, the group it is counted in.

Nothing is written here: what is to be written is made, in the thread that ran the job, with values
that a user's code may have to encode.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from taskqd.client.composition import Failed, Skipped
from taskqd.crypto.sealing import Call, member_of
from taskqd.errors import PayloadTooLarge
from taskqd.execution.protocols import AppLike
from taskqd.jobs.codec import decode_plain, encode_checked, encode_value
from taskqd.jobs.end import ConcludeStage, CountMember, EnqueueNext, FollowUp, ShortenGroup
from taskqd.jobs.job import (
    Answer,
    Entry,
    Envelope,
    Failure,
    Reason,
    Stage,
    State,
    clip,
    decode_answer,
    encode_answer,
)

_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_dict = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_CALLED_BACK_TTL_S = 3600
_decode_envelope = msgspec.json.Decoder(Envelope).decode


def follows(envelope: Envelope) -> bool:
    """Return whether the end of this job sets anything off."""
    return bool(envelope.n or envelope.g or envelope.f or envelope.c)


class ValueSteps(NamedTuple):
    """What the value of a job sets off."""

    follow_ups: tuple[FollowUp, ...]
    lost: Answer | None = None
    """The answer of the next stage where that cannot be made of the value."""


def after_value(
    app: AppLike, envelope: Envelope, queue: str, answer: Answer, value: Any
) -> ValueSteps:
    """Return what is to be written for a job that has this value."""
    # The callback of a group has its value: the answers stay as long as it may yet run again,
    # because its worker dies before it is settled.
    used = () if envelope.c is None else (ShortenGroup(envelope.c, queue, _CALLED_BACK_TTL_S),)
    if envelope.n:
        made = _next_of(app, envelope.n[0], value, envelope, goes_on=True)
        if isinstance(made, EnqueueNext):
            return ValueSteps((*used, made))
        lost = msgspec.structs.replace(made, ttl_s=answer.ttl_s)
        return ValueSteps((*used, *after_failure(app, envelope, lost)), lost)
    if envelope.g is None:
        return ValueSteps(used)
    member = envelope.g
    if app.sealer is not None and bytes(answer.value) != b"null":
        subject = member_of(member.group, member.index)
        plain = b"" if app.sealer.pickles else encode_checked(value, subject)
        sealed = app.sealer.seal_value(subject, value, plain)
        answer = msgspec.structs.replace(answer, value=msgspec.Raw(sealed))
    counted = CountMember(member.group, member.queue, member.index, encode_answer(answer))
    return ValueSteps((*used, counted))


def after_failure(app: AppLike, envelope: Envelope, answer: Answer) -> tuple[FollowUp, ...]:
    """Return what is to be written for a job that has no value and will have none."""
    encoded = encode_answer(msgspec.structs.replace(answer, token=0, attempts=0))
    steps: list[FollowUp] = [
        ConcludeStage(stage.id, stage.queue, encoded, answer.ttl_s) for stage in envelope.n or ()
    ]
    if envelope.g is not None:
        member = envelope.g
        steps.append(CountMember(member.group, member.queue, member.index, encoded))
    if envelope.f is not None:
        failure = answer.failure
        text = f"{failure.type_name}: {failure.message}" if failure else answer.reason
        handler = envelope.f
        made = _next_of(app, handler, text.removeprefix(": "), envelope, goes_on=False)
        if isinstance(made, EnqueueNext):
            steps.append(made)
        else:
            dead = encode_answer(made)
            steps.append(ConcludeStage(handler.id, handler.queue, dead, answer.ttl_s))
    return tuple(steps)


def values_of(app: AppLike, group: str, queue: str) -> list[Any] | None:
    """Return what the members of a group have come to, None if the group is not known.

    In the place of a member without a value stands a `Failed` or a `Skipped`.
    """
    if app.features.group_left(group, queue) < 0:
        return None
    answers = app.features.group_answers(group, queue)
    return [_value_of(app, data, group, index) for index, data in enumerate(answers)]


def _value_of(app: AppLike, data: bytes | None, group: str, index: int) -> Any:
    if data is None:
        return Skipped("missing")
    answer = decode_answer(data)
    if answer.state == State.DONE and app.sealer is not None:
        return app.sealer.unseal_value(member_of(group, index), bytes(answer.value))
    if answer.state == State.DONE:
        return decode_plain(bytes(answer.value))
    if answer.state == State.CANCELLED:
        return Skipped(answer.reason)
    failure = answer.failure
    return Failed(answer.reason, f"{failure.type_name}: {failure.message}" if failure else "")


def _next_of(
    app: AppLike, stage: Stage, value: Any, before: Envelope, *, goes_on: bool
) -> EnqueueNext | Answer:
    """Return the job that follows `before`, given its value; `goes_on`: as the next of its pipeline.

    Where it cannot be made, its answer: the value is too large, or has no JSON form.
    """
    try:
        return EnqueueNext(_entry_of(app, stage, value, before, goes_on))
    except Exception as error:
        reason = Reason.OVERSIZED if isinstance(error, PayloadTooLarge) else Reason.REJECTED
        failure = Failure("", clip(str(error)))
        now = app.clock.estimate_ms()
        return Answer("dead", 0, now, app.result_ttl, 0, reason=reason, failure=failure)


def _entry_of(app: AppLike, stage: Stage, value: Any, before: Envelope, goes_on: bool) -> Entry:
    envelope = _decode_envelope(stage.envelope)
    if app.sealer is None:
        _extend(envelope, value)
    else:
        call = app.sealer.unseal_call(envelope, stage.id)
        app.sealer.seal_call(envelope, stage.id, _extended(call, value))
    now = app.clock.estimate_ms()
    envelope.e = now
    envelope.h = envelope.h or before.h
    if goes_on:
        envelope.n = (before.n or [])[1:] or None
        envelope.f, envelope.g = before.f, before.g
    run_at_ms = now + stage.delay_ms if stage.delay_ms else 0
    return app.packer.make_entry(envelope, stage.id, stage.queue, run_at_ms)


def _extend(envelope: Envelope, value: Any) -> None:
    """Add a value to the arguments: see `Signature.then`."""
    if value is None or value == ():
        return
    if isinstance(value, dict):
        given = _raw_dict(envelope.k) if envelope.k else {}
        added = _raw_dict(encode_checked(value, "the value of the stage before"))
        envelope.k = msgspec.Raw(encode_value({**added, **given}))
        return
    more = list(value) if isinstance(value, tuple) else [value]
    given_args = _raw_list(envelope.a) if envelope.a else []
    data = encode_checked([*given_args, *more], "the value of the stage before")
    envelope.a = msgspec.Raw(data)


def _extended(call: Call, value: Any) -> Call:
    """As `_extend`, for arguments that were sealed."""
    if not call.pickled:
        open_one = Envelope(t="", a=msgspec.Raw(call.args), k=msgspec.Raw(call.kwargs))
        _extend(open_one, value)
        return Call(bytes(open_one.a), bytes(open_one.k), pickled=False)
    if value is None or value == ():
        return call
    if isinstance(value, dict):
        return call._replace(kwargs={**value, **call.kwargs})
    more = value if isinstance(value, tuple) else (value,)
    return call._replace(args=(*call.args, *more))

"""A periodic task made or paused at run time, as a storage keeps it.  Pure.

The definition is signed where the app signs its payloads: who may only write to the storage must
not be able to have a job enqueued and signed by the scheduler.
"""

from __future__ import annotations

import msgspec

from taskqd.crypto.signing import Signer
from taskqd.errors import ConfigError, DecodeError
from taskqd.jobs.job import NOTHING
from taskqd.periodic.cron import Rule, crontab, every

VERSION = 1
_PLACE = "schedules"
"""Stands for the queue in what is signed: no job can have a schedule's signature."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    v: int = 1
    task: str = ""
    """"": the task is declared in the app; only `paused` and `since_ms` are said of it."""
    every_ms: int = 0
    crontab: str = ""
    call: msgspec.Raw = NOTHING
    """``[arguments, keyword arguments]``, or what the app's sealer makes of them."""
    timezone: str | None = None
    missed: str | None = None
    overlap: str | None = None
    paused: bool = False
    since_ms: int = 0
    """Ticks up to here are none of its: it was made, changed or resumed then."""

    @property
    def rule(self) -> Rule:
        """Raises ConfigError where it tells none."""
        return every(seconds=self.every_ms / 1000) if self.every_ms else crontab(self.crontab)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Schedule).decode


def rule_fields(name: str, rule: object) -> tuple[int, str]:
    """Return (every_ms, crontab) of a rule that can be kept.  Raises ConfigError."""
    if isinstance(rule, every):
        return rule.period_ms, ""
    if isinstance(rule, crontab):
        return 0, rule.expression
    raise ConfigError(
        f"periodic task {name!r}: rule {rule!r}; a schedule that is kept takes crontab(...) or"
        " every(...)"
    )


def encode(name: str, schedule: Schedule, namespace: str, signer: Signer | None) -> bytes:
    data = _encode(schedule)
    if signer is not None:
        data += b"\n" + signer.sign(namespace, _PLACE, name, data)
    return data


def decode(name: str, data: bytes, namespace: str, signer: Signer | None) -> Schedule:
    """Raises DecodeError where it is damaged or too new, SignatureError where the app signs and
    the signature is not right."""
    text, _, signature = data.partition(b"\n")
    if signer is not None:
        signer.verify(namespace, _PLACE, name, text, signature or None)
    try:
        schedule = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(f"schedule {name!r}: {error}") from None
    if schedule.v > VERSION:
        raise DecodeError(
            f"schedule {name!r}: version {schedule.v}; this taskqd reads up to {VERSION}"
        )
    return schedule

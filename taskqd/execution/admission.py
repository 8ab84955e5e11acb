"""From a lease to a job that may run, or to the outcome of one that must not."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec

from taskqd.clock import monotonic_s, now_ms
from taskqd.crypto.sealing import Sealer
from taskqd.errors import ConfigError, DecodeError, SealError, SignatureError, StorageError
from taskqd.execution.continuations import values_of
from taskqd.execution.dead_letters import AWAY_MS
from taskqd.execution.outcomes import KILLED, Outcomes
from taskqd.execution.protocols import AppLike, Opened, TaskLike
from taskqd.execution.unpacking import call_options, unpack
from taskqd.jobs.exception_text import describe
from taskqd.jobs.job import (
    NO_MARKS,
    BadRecord,
    Envelope,
    Failure,
    Lease,
    Marks,
    Outcome,
    Reason,
    split_record,
)
from taskqd.jobs.options import TaskOptions
from taskqd.jobs.retry import retry_delay_s
from taskqd.settings import LimitSettings
from taskqd.storage.features import Revocation

_WAITED = "taskqd.errors."
"""Put before the error of a killed job once its retry has a time, as it is for one that raised."""
_DEFAULTS = TaskOptions()
_CALLBACK = b'"c":"'
"""So begins a chord's group in the payload of its callback."""
_MARKS_BYTES_MAX = 16_384
_ORDERS_S = 1.0
"""Standing orders are not read more often, unless they have changed."""
_decode_envelope = msgspec.json.Decoder(Envelope).decode


class _Orders(NamedTuple):
    """What was read of the standing orders, to be replaced as a whole: slots share it."""

    change: int
    until_s: float
    orders: dict[str, Revocation]


class Admission:
    """Opens records.  Of what it learns it keeps the standing orders, for a moment."""

    def __init__(self, app: AppLike, limits: LimitSettings, ends: Outcomes) -> None:
        self._app = app
        self._limits = limits
        self._ends = ends
        self._sealer = app.sealer
        self._orders = 0
        """The number of the last change to the standing orders (`Leased.revocations`)."""
        self._known = _Orders(0, 0.0, {})

    def heed(self, orders: int) -> None:
        """Look at the standing orders as of this change before each job from now on; 0: do not."""
        self._orders = orders

    def asks(self, lease: Lease) -> bool:
        """Return whether opening this one may ask the storage."""
        return bool(self._orders) or _CALLBACK in lease.record

    def open(self, lease: Lease) -> Opened | Outcome:
        """Return the job, or the outcome of one that must not run.  Never raises."""
        try:
            unpacked = unpack(
                lease.record,
                namespace=self._app.name,
                queue=lease.queue,
                job_id=lease.id,
                signer=self._app.signer,
            )
        except SignatureError as error:
            return self._ends.refuse(lease, Reason.UNSIGNED, str(error))
        except (BadRecord, DecodeError) as error:
            return self._ends.refuse(lease, Reason.UNDECODABLE, str(error))
        try:
            return self._admit(lease, unpacked.envelope, unpacked.marks)
        except Exception as error:  # a payload that no packer has made
            return self._ends.refuse(lease, Reason.UNDECODABLE, describe(error))

    def _admit(self, lease: Lease, envelope: Envelope, marks: Marks) -> Opened | Outcome:
        task = self._app.registry.get(envelope.t)
        if task is None:
            message = f"no task named {envelope.t!r} is declared in app {self._app.name!r}"
            return self._ends.park(lease, envelope, marks, message)
        options = call_options(task.settings, envelope)
        if marks is not NO_MARKS and (
            refusal := self._over_budget(lease, envelope, marks, options)
        ):
            return refusal
        if self._orders and (refusal := self._called_off(lease, envelope, marks, options)):
            return refusal
        if envelope.x is not None and envelope.x < now_ms():
            return self._ends.cancel(lease, envelope, marks, options, Reason.EXPIRED)
        return self._decode_call(lease, envelope, marks, task, options)

    # -- standing orders ---------------------------------------------------------------------

    def _called_off(
        self, lease: Lease, envelope: Envelope, marks: Marks, options: TaskOptions
    ) -> Outcome | None:
        try:
            if not self._revoked(lease, envelope):
                return None
        except StorageError:
            return self._ends.come_back(lease, marks, Reason.REVOKED, AWAY_MS)
        return self._ends.cancel(lease, envelope, marks, options, Reason.REVOKED)

    def _revoked(self, lease: Lease, envelope: Envelope) -> bool:
        orders = self._standing()
        for subject in (f"id:{lease.id}", f"task:{envelope.t}"):
            order = orders.get(subject)
            if order is None or (order.until_ms and order.until_ms <= now_ms()):
                continue
            # Of several workers that meet an order for one job, one uses it up.
            if not order.once or self._app.features.restore(subject):
                return True
        return False

    def _standing(self) -> dict[str, Revocation]:
        """Return the standing orders.

        law: at least as new as the change that the last turn told of, so that an order holds back
        every job leased after it was given; and never older than a second.
        """
        known, now_s = self._known, monotonic_s()
        if known.change != self._orders or now_s >= known.until_s:
            change = self._orders  # Before they are read: they may be newer than it, not older.
            known = _Orders(change, now_s + _ORDERS_S, self._app.features.revocations())
            self._known = known
        return known.orders

    # -- budgets -----------------------------------------------------------------------------

    def _over_budget(
        self, lease: Lease, envelope: Envelope, marks: Marks, options: TaskOptions
    ) -> Outcome | None:
        spent = _spent_by_others(marks, options)
        if spent is not None:
            error, _, stack = marks.error.partition("\n")
            return self._ends.refuse(lease, spent, error, envelope, marks, stack)
        if marks.failures > options.retries:
            return self._spent(lease, envelope, marks, options)
        return self._postponed(lease, envelope, marks, options)

    def _postponed(
        self, lease: Lease, envelope: Envelope, marks: Marks, options: TaskOptions
    ) -> Outcome | None:
        """Let a job that was killed at its timeout wait for its retry: its killer knew no options."""
        if not marks.error.startswith(KILLED):
            return None
        delay_s = retry_delay_s(options, marks.failures, random.random())
        if delay_s <= 0:
            return None
        marks = msgspec.structs.replace(marks, error=f"{_WAITED}{marks.error}")
        return self._ends.postpone(lease, envelope.t, marks, delay_s)

    def _spent(
        self, lease: Lease, envelope: Envelope, marks: Marks, options: TaskOptions
    ) -> Outcome:
        """Bury a job whose last failure was counted by who killed its worker, not by itself."""
        error, _, stack = marks.error.partition("\n")
        timed_out = error.removeprefix(_WAITED).startswith(KILLED)
        kind, _, message = error.partition(": ")
        failure = Failure(kind, message, stack) if message else Failure("", error, stack)
        reason = Reason.TIMEOUT if timed_out else Reason.FAILED
        marks = msgspec.structs.replace(marks, error=error)
        return self._ends.bury(lease, envelope, marks, options, reason, failure)

    # -- the call ----------------------------------------------------------------------------

    def _decode_call(
        self, lease: Lease, envelope: Envelope, marks: Marks, task: TaskLike, options: TaskOptions
    ) -> Opened | Outcome:
        if len(lease.record) > self._limits.payload_bytes_max + _MARKS_BYTES_MAX:
            message = f"the record has {len(lease.record)} bytes; see limits.payload_bytes_max"
            return self._ends.refuse(lease, Reason.OVERSIZED, message, envelope, marks)
        try:
            if self._sealer is None and envelope.z is None:
                args, kwargs = task.codec.decode_call(envelope.a, envelope.k)
            else:
                args, kwargs = self._unseal(lease, envelope, task)
            if envelope.c is not None:
                values = values_of(self._app, envelope.c, lease.queue)
                if values is None:
                    message = f"the group {envelope.c!r} is not known any more"
                    return self._ends.refuse(lease, Reason.LOST, message, envelope, marks)
                args = [values, *args]
        except StorageError:
            return self._ends.come_back(lease, marks, Reason.INTERRUPTED, AWAY_MS)
        except (SealError, SignatureError) as error:
            return self._ends.refuse(lease, Reason.UNREADABLE, str(error), envelope, marks)
        except DecodeError as error:
            return self._ends.refuse(lease, Reason.REJECTED, str(error), envelope, marks)
        problem = task.codec.fits(args, kwargs)
        if problem is not None:
            return self._ends.refuse(lease, Reason.REJECTED, problem, envelope, marks)
        return Opened(lease, envelope, marks, task, options, args, kwargs)

    def _unseal(self, lease: Lease, envelope: Envelope, task: TaskLike) -> tuple[Any, Any]:
        sealer = self._sealer or Sealer(self._app.name, pickles=False, signer=None, cipher=None)
        call = sealer.unseal_call(envelope, lease.id)
        if call.pickled:
            return call.args, call.kwargs
        return task.codec.decode_call(call.args, call.kwargs)

    def peek(self, lease: Lease) -> tuple[Marks, TaskOptions, str]:
        """Return what can be known of a job without refusing it."""
        try:
            marks, payload, _ = split_record(lease.record)
            envelope = _decode_envelope(payload)
            task = self._app.registry.get(envelope.t)
            options = _DEFAULTS if task is None else call_options(task.settings, envelope)
        except (BadRecord, ConfigError, msgspec.MsgspecError, ValueError):
            return NO_MARKS, _DEFAULTS, ""
        return marks, options, envelope.t


def _spent_by_others(marks: Marks, options: TaskOptions) -> Reason | None:
    """Return which budget is spent of those that no failure of the job's own counts against."""
    if options.at_most_once and (marks.crashes or marks.interruptions):
        return Reason.LOST
    if marks.crashes >= options.max_crashes:
        return Reason.POISONED
    limit = options.max_interruptions
    return Reason.INTERRUPTIONS if limit is not None and marks.interruptions > limit else None

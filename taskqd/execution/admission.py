"""From a lease to a job that may run, or to the outcome of one that must not."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec

from taskqd.clock import monotonic_s
from taskqd.crypto.sealing import Sealer
from taskqd.errors import ConfigError, DecodeError, SealError, SignatureError, StorageError
from taskqd.execution.attempt import Attempt
from taskqd.execution.continuations import follows, values_of
from taskqd.execution.outcomes import Outcomes
from taskqd.execution.protocols import AppLike
from taskqd.execution.requeues import timed_out, was_killed
from taskqd.execution.unpacking import call_options, unpack
from taskqd.jobs.end import END_NOTE, resumed_end
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
    """Decides what may run.  Of what it learns it keeps the standing orders, for a moment."""

    def __init__(self, app: AppLike, limits: LimitSettings, outcomes: Outcomes) -> None:
        self._app = app
        self._limits = limits
        self._outcomes = outcomes
        self._requeues = outcomes.requeues
        self._refuse = outcomes.dead_letters.refuse
        self._sealer = app.sealer
        self._orders = 0
        """The number of the last change to the standing orders (`Leased.revocations`)."""
        self._known = _Orders(0, 0.0, {})

    def heed(self, orders: int) -> None:
        """Look at the standing orders as of this change before each job from now on; 0: do not."""
        self._orders = orders

    def asks(self, lease: Lease) -> bool:
        """Return whether admitting this one may ask the storage."""
        return bool(self._orders) or lease.record[:1] == b"[" or _CALLBACK in lease.record

    def admit(self, lease: Lease) -> Attempt | Outcome:
        """Return the attempt, or the outcome of a job that must not run.  Never raises."""
        try:
            unpacked = unpack(
                lease.record,
                namespace=self._app.name,
                queue=lease.queue,
                job_id=lease.id,
                signer=self._app.signer,
            )
        except SignatureError as error:
            return self._refuse(Attempt(lease), Reason.UNSIGNED, str(error))
        except (BadRecord, DecodeError) as error:
            return self._refuse(Attempt(lease), Reason.UNDECODABLE, str(error))
        try:
            attempt = Attempt(lease, unpacked.envelope, unpacked.marks)
            return self._examined(attempt) or attempt
        except Exception as error:  # a payload that no packer has made
            return self._refuse(Attempt(lease), Reason.UNDECODABLE, describe(error))

    def _examined(self, attempt: Attempt) -> Outcome | None:
        """Find out what there is to know of the job; returns the outcome of one that may not run."""
        envelope = attempt.envelope
        task = self._app.registry.get(envelope.t)
        if task is None:
            message = f"no task named {envelope.t!r} is declared in app {self._app.name!r}"
            return self._outcomes.dead_letters.park(attempt, message)
        attempt.task = task
        attempt.options = call_options(task.settings, envelope)
        if attempt.marks is not NO_MARKS:
            if end := self._kept_end(attempt):
                return end
            if refusal := self._over_budget(attempt):
                return refusal
        if self._orders and (refusal := self._called_off(attempt)):
            return refusal
        if envelope.x is not None and envelope.x < self._app.clock.estimate_ms():
            return self._outcomes.cancel(attempt, Reason.EXPIRED)
        return self._decode_call(attempt)

    def _kept_end(self, attempt: Attempt) -> Outcome | None:
        """Return the end that an earlier worker has reached and could not write.

        law: a job whose end is kept with it is not started again, whatever became of its worker
        (test_an_end_that_was_kept_with_its_job_outlives_its_worker).
        """
        marks, lease = attempt.marks, attempt.lease
        if not (marks.interruptions or marks.crashes) or not follows(attempt.envelope):
            return None
        try:
            kept = self._app.features.notes(lease.id, lease.queue).get(END_NOTE)
        except StorageError:
            return self._requeues.await_storage(attempt)
        return None if kept is None else resumed_end(kept, lease)

    # -- standing orders ---------------------------------------------------------------------

    def _called_off(self, attempt: Attempt) -> Outcome | None:
        try:
            if not self._revoked(attempt):
                return None
        except StorageError:
            return self._requeues.await_storage(attempt, Reason.REVOKED)
        return self._outcomes.cancel(attempt, Reason.REVOKED)

    def _revoked(self, attempt: Attempt) -> bool:
        orders = self._standing()
        for subject in (f"id:{attempt.lease.id}", f"task:{attempt.envelope.t}"):
            order = orders.get(subject)
            if order is None or (
                order.until_ms and order.until_ms <= self._app.clock.estimate_ms()
            ):
                continue
            # Of several workers that meet an order for one job, one uses it up.
            if not order.once or self._app.features.restore(subject):
                return True
        return False

    def _standing(self) -> dict[str, Revocation]:
        """Return the standing orders.

        law: at least as new as the change that the last turn told of, so that an order holds back
        every job leased after it was given; and never older than a second
        (test_standing_orders_were_read_from_the_storage_for_each_job).
        """
        known, now_s = self._known, monotonic_s()
        if known.change != self._orders or now_s >= known.until_s:
            change = self._orders  # Before they are read: they may be newer than it, not older.
            known = _Orders(change, now_s + _ORDERS_S, self._app.features.revocations())
            self._known = known
        return known.orders

    # -- budgets -----------------------------------------------------------------------------

    def _over_budget(self, attempt: Attempt) -> Outcome | None:
        marks, options = attempt.marks, attempt.options
        spent = _spent_by_others(marks, options)
        if spent is not None:
            error, _, stack = marks.error.partition("\n")
            return self._refuse(attempt, spent, error, stack)
        if marks.failures > options.retries:
            return self._spent(attempt)
        if was_killed(marks.error):
            # Who killed it knew no options: the delay of its retry is decided here.
            delay_s = retry_delay_s(options, marks.failures, random.random())
            if delay_s > 0:
                return self._requeues.delay_retry(attempt, delay_s)
        return None

    def _spent(self, attempt: Attempt) -> Outcome:
        """Bury a job whose last failure was counted by who killed its worker, not by itself."""
        error, _, stack = attempt.marks.error.partition("\n")
        reason = Reason.TIMEOUT if timed_out(error) else Reason.FAILED
        kind, _, message = error.partition(": ")
        failure = Failure(kind, message, stack) if message else Failure("", error, stack)
        attempt.marks = msgspec.structs.replace(attempt.marks, error=error)
        return self._outcomes.dead_letters.bury(attempt, reason, failure)

    # -- the call ----------------------------------------------------------------------------

    def _decode_call(self, attempt: Attempt) -> Outcome | None:
        lease, envelope, codec = attempt.lease, attempt.envelope, attempt.task.codec
        if len(lease.record) > self._limits.payload_bytes_max + _MARKS_BYTES_MAX:
            message = f"the record has {len(lease.record)} bytes; see limits.payload_bytes_max"
            return self._refuse(attempt, Reason.OVERSIZED, message)
        try:
            if self._sealer is None and envelope.z is None:
                args, kwargs = codec.decode_call(envelope.a, envelope.k)
            else:
                args, kwargs = self._unseal(attempt)
            if envelope.c is not None:
                values = values_of(self._app, envelope.c, lease.queue)
                if values is None:
                    message = f"the group {envelope.c!r} is not known any more"
                    return self._refuse(attempt, Reason.LOST, message)
                args = [values, *args]
        except StorageError:
            return self._requeues.await_storage(attempt)
        except (SealError, SignatureError) as error:
            return self._refuse(attempt, Reason.UNREADABLE, str(error))
        except DecodeError as error:
            return self._refuse(attempt, Reason.REJECTED, str(error))
        problem = codec.fits(args, kwargs)
        if problem is not None:
            return self._refuse(attempt, Reason.REJECTED, problem)
        attempt.args, attempt.kwargs = args, kwargs
        return None

    def _unseal(self, attempt: Attempt) -> tuple[Any, Any]:
        sealer = self._sealer or Sealer(self._app.name, pickles=False, signer=None, cipher=None)
        call = sealer.unseal_call(attempt.envelope, attempt.lease.id)
        if call.pickled:
            return call.args, call.kwargs
        return attempt.task.codec.decode_call(call.args, call.kwargs)

    def peek(self, lease: Lease) -> Attempt:
        """Return what can be known of a job without refusing it."""
        try:
            marks, payload, _ = split_record(lease.record)
            envelope = _decode_envelope(payload)
            task = self._app.registry.get(envelope.t)
            if task is None:
                return Attempt(lease, envelope, marks)
            return Attempt(lease, envelope, marks, call_options(task.settings, envelope))
        except (BadRecord, ConfigError, msgspec.MsgspecError, ValueError):
            return Attempt(lease)


def _spent_by_others(marks: Marks, options: TaskOptions) -> Reason | None:
    """Return which budget is spent of those that no failure of the job's own counts against."""
    if options.at_most_once and (marks.crashes or marks.interruptions):
        return Reason.LOST
    if marks.crashes >= options.max_crashes:
        return Reason.POISONED
    limit = options.max_interruptions
    return Reason.INTERRUPTIONS if limit is not None and marks.interruptions > limit else None

"""The second half of the storage contract: notes, revocations, locks, rates, groups, schedules.

What these keep is bounded like everything else: it goes with its job, its owner or its lifetime.
All calls are atomic and can be repeated after a lost reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from taskqd.jobs.job import Entry


class LeaseKey(NamedTuple):
    """One lease, as its worker names it."""

    worker: str
    job_id: str
    queue: str
    token: int


class Revocation(msgspec.Struct, frozen=True):
    """A standing order not to run a job or a task."""

    until_ms: int = 0
    """Holds back what would start before; 0: until it is restored (or its lifetime ends)."""
    once: bool = False
    """The first job that it stops uses it up."""


class LockRow(NamedTuple):
    name: str
    owner: str
    token: int
    """Fencing token: greater than that of every earlier holder of this lock."""
    expires_in_s: float | None
    """None: lives as long as its owner's node."""


class Parked(NamedTuple):
    """Dead letters of one queue that wait under one label."""

    queue: str
    label: str
    letters: int
    oldest_s: float
    """How long the one that waits longest has waited."""


class Letter(NamedTuple):
    """One parked dead letter."""

    id: str
    record: bytes
    waited_s: float


Noted = Literal["kept", "present", "fenced"]


class Features(Protocol):
    # -- notes -------------------------------------------------------------------------------

    def note(self, hold: LeaseKey, key: str, value: bytes, *, once: bool = False) -> Noted:
        """Keep a small value with a running job; it survives interruption, crash and change of
        host, and goes when the job has its answer.

        "present": `once`, and the key has a value (which stays).  "fenced": the lease is not
        current; nothing was kept.
        """
        ...

    def notes(self, job_id: str, queue: str | None = None) -> dict[str, bytes]: ...

    # -- revocations -------------------------------------------------------------------------

    def stop(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        """Ask a running job to stop: its id is in `Leased.stops` of its worker's turns from now
        on, and if it ends as retry or requeue, or is released or recovered, it ends as cancelled
        with `answer` instead.  False: it is not running.
        """
        ...

    def revoke(self, subject: str, revocation: Revocation, ttl_s: int) -> None:
        """Set a standing order for ``task:<name>`` or ``id:<job id>``; gone after `ttl_s`.

        While there is any, `Leased.revocations` is not 0, so that workers look; each change of the
        orders changes it, from when this call has returned.
        """
        ...

    def restore(self, subject: str) -> bool:
        """Lift a standing order, or use it up where it is `once`.  False: there was none (any more),
        so of several callers one gets True."""
        ...

    def revocations(self) -> dict[str, Revocation]:
        """Return the standing orders within their lifetime."""
        ...

    # -- limits: locks -----------------------------------------------------------------------

    def lock(
        self,
        name: str,
        owner: str,
        *,
        slots: int = 1,
        ttl_s: float | None = None,
        waiter: tuple[str, str] | None = None,
    ) -> int | None:
        """Take one of `slots` places of a lock; returns its fencing token, None if all are taken.

        `owner` "<worker id>#<token>" lives as its worker: freed by `recover_worker` and by the
        expiry of its node; any other owner needs `ttl_s`.  The same owner asking again gets its
        token again.  `waiter` (queue, job id): wake this scheduled job (as `reschedule` to now)
        when a place gets free, first come first served; dropped when it gets the lock.  Where that
        happens before the waiter was requeued, its requeue goes to the tail at once, whatever
        its delay.
        """
        ...

    def renew_lock(self, name: str, owner: str, ttl_s: float) -> bool:
        """False: it is not the owner's (any more)."""
        ...

    def unlock(self, name: str, owner: str) -> bool:
        """Give a place back and wake the first waiter.  False: it was not the owner's."""
        ...

    def locks(self) -> list[LockRow]: ...

    def flush_locks(self, names: Sequence[str] | None = None) -> int:
        """Free these locks (None: all), whoever owns them; returns how many places were taken."""
        ...

    # -- limits: rates -----------------------------------------------------------------------

    def take(self, key: str, limit: int, period_ms: int, who: str) -> int:
        """Count one start if fewer than `limit` were counted in the last `period_ms`.

        Returns 0 where it was counted, else the ms after which to ask again.  Exact: a sliding
        log, by the storage's clock, over `period_ms` and a margin (a twentieth and 20 ms) for the
        time between the count and the start.  Callers `who` (job ids) that are refused are told
        times that are a share of the period apart, so that a thousand do not ask at once.
        """
        ...

    # -- limits: unique jobs -----------------------------------------------------------------

    def unique_holder(self, queue: str, key: str) -> str | None:
        """Return the id of the job that holds `Entry.unique` key, None if none does.

        `enqueue` answers False for an entry whose key is held.  Freed when the holder has ended
        (or is dead, or purged); with `unique_until="start"` when it is first leased.
        """
        ...

    # -- groups ------------------------------------------------------------------------------

    def group_open(
        self, group: str, queue: str, total: int, callback: Entry | None, ttl_s: int
    ) -> bool:
        """Start counting the members of a group.  `queue` is where its counter and its callback
        live.  With a total of 0 the callback is enqueued at once.  False: it is open already."""
        ...

    def group_put(self, group: str, queue: str, index: int, answer: bytes) -> int:
        """Keep the answer of one member (the first for each index counts); returns how many are
        missing.  When none is, the callback is enqueued in the same step, once.  -1: the group is
        not known (its lifetime is over)."""
        ...

    def group_answers(self, group: str, queue: str) -> list[bytes | None]:
        """Return the members' answers in order of their index; [] for an unknown group."""
        ...

    def group_left(self, group: str, queue: str) -> int:
        """Return how many answers are missing, -1 for a group that is not known."""
        ...

    def group_shorten(self, group: str, queue: str, ttl_s: int) -> None:
        """Let the group end after `ttl_s`, unless it ends before."""
        ...

    # -- answers: of jobs that never came to be ----------------------------------------------

    def conclude(self, job_id: str, queue: str, answer: bytes, ttl_s: int) -> bool:
        """Keep an answer for a job that never came to be (a later stage of a failed pipeline) and
        wake its waiters.  False: the id is known."""
        ...

    # -- parked ------------------------------------------------------------------------------

    def parked(self, queues: Sequence[str]) -> list[Parked]:
        """Return what waits in these queues; with nothing parked it costs one look at each.

        A letter is parked by an outcome "bury" with `Outcome.parked`; it is a dead letter like
        others, and parked no more once it is revived, dropped or leased.  It is leased by a worker
        of a node that knows its label (`know`), and by no other.  Who parks one does not know its
        label: what its node knew of it is forgotten.
        """
        ...

    def parked_letters(self, queue: str, label: str, limit: int) -> list[Letter]:
        """Return the letters under a label, longest parked first."""
        ...

    def know(self, node: str, queue: str, label: str) -> bool:
        """Have the node's workers lease what is parked under a label, now and as long as the node
        lives, and wake those that are idle.  False: it did so already, or is not registered.

        They lease letters before jobs of the same or a lower priority, longest parked first, with
        their marks; the letters' answers are dropped.  A letter that is parked under a label of
        which there was none rings the schedulers' bells, unless somebody idle who knows it got it.
        """
        ...

    def relabel(self, queue: str, job_ids: Sequence[str], label: str) -> list[str]:
        """Have these parked letters wait under another label, as long as before; "": they stay dead,
        parked no more.  Returns those of which that was not so yet: of several callers one is told.
        """
        ...

    # -- timers: periodic tasks made at run time ---------------------------------------------

    def schedule_put(self, name: str, data: bytes) -> None:
        """Keep the definition of a periodic task made at run time; rings the schedulers' bells."""
        ...

    def schedule_drop(self, name: str) -> bool:
        """Forget it; rings the schedulers' bells.  False: there was none."""
        ...

    def schedules(self) -> dict[str, bytes]: ...

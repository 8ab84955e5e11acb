"""When a node's lease that was not renewed counts as over.  Pure.

law: an expired lease proves nothing while the storage itself was away, frozen, loading, or its clock
was set: nobody could renew then (test_an_outage_longer_than_the_lease_takes_nothing_from_a_living_node).
So a storage keeps a *pulse*, by the clock of its leases: since when it has served without a break.
Registering, heartbeats and looks for what is over feel it.  A lease counts as over where it has ended,
and the pulse was unbroken for as long as it lasts: whoever lives has had that long to renew it.

Memory and SQLite call these functions.  The scripts of Redis tell the same in Lua (pulse.lua), held to
it by the contract's tests.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from taskqd.jobs.job import Marks, Reason, State

GAP_MIN_MS = 500
"""A shorter silence breaks no pulse, however short the lease is."""
TAKEN_MS = 86_400_000
"""How long it is remembered what was taken from a silent node: a day."""
LEASE_MS = 10_000
"""The lease of a node that was registered by a version which did not note it."""

_GIVEN_UP = (Reason.LOST, Reason.POISONED)


class Pulse(NamedTuple):
    last_ms: int
    since_ms: int
    """It is unbroken since then."""


def felt(pulse: Pulse | None, now_ms: int, lease_ms: int) -> Pulse:
    """Return the pulse after the storage has served somebody now; `lease_ms`: the lease of who asks.

    A silence of more than half a lease, or a clock that was set, breaks it.
    """
    gap_ms = max(lease_ms // 2, GAP_MIN_MS)
    if pulse is None or not 0 <= now_ms - pulse.last_ms <= gap_ms:
        return Pulse(now_ms, now_ms)
    return Pulse(now_ms, pulse.since_ms)


def ends_by(ends_ms: int, now_ms: int, lease_ms: int) -> int:
    """Return when the lease ends: no later than its length from now.

    Where more is left, the clock was set back since it was renewed.
    """
    return min(ends_ms, now_ms + lease_ms)


def is_over(ends_ms: int, now_ms: int, lease_ms: int, pulse: Pulse) -> bool:
    """Return whether the lease counts as over."""
    return ends_ms <= now_ms and pulse.since_ms <= now_ms - lease_ms


def taken_back(marks: Marks, attempts: int) -> Marks:
    """Return the marks of a job whose node lives after all: the attempt was interrupted.

    `attempts`: as counted when the job was taken; fewer means that its marks were cleared since.
    """
    if not marks.crashes or marks.attempts < attempts:
        return marks
    return replace(marks, crashes=marks.crashes - 1, interruptions=marks.interruptions + 1)


def counts_late(attempts: int, marks: Marks, state: State, reason: str) -> bool:
    """Return whether the late end of a taken job counts: it has not started again.

    It waits, or was given up for the lease that ran out.
    """
    if marks.attempts != attempts:
        return False
    return state is State.QUEUED or (state is State.DEAD and reason in _GIVEN_UP)

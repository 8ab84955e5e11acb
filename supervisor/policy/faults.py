"""Decides which child has broken a rule of its state, and how it is ended.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.supervisor.state.actions import (
    AT_ONCE,
    HUNG,
    STUCK,
    Action,
    DeclareDead,
    Kill,
    SendSignal,
)
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet
from taskqd.supervisor.state.lifecycle import ChildState

SCHEDULER_BEAT_S = 2.5
"""A scheduler that has not beaten for so long is replaced."""
WORKER_BEAT_S = 10.0
COMPUTING_BEAT_S = 120.0
"""Patience with a worker that computes without letting its other threads run (C code may)."""
STORAGE_DOWN_BEAT_S = 30.0
"""Patience with a child that said that its storage is gone: a call may take its whole deadline."""
REVOKED_S = 5.0
"""Patience with a revoked job that has a process to itself."""
BOOT_S = 60.0
LEAVE_S = 5.0
"""From a child's last word to its exit."""
SCHEDULER_LEAVE_S = 8.0
"""From the order to make place until a scheduler is killed: it runs its last errands."""
HANG_UP_S = 1.0
"""From a broken channel to the death of its other end."""


def fault(fleet: Fleet, child: Child, now_s: float) -> Action | None:
    """Return how to end a child that has broken a rule of its state, None if it has not."""
    if child.hung_up_s is not None and now_s >= child.hung_up_s + HANG_UP_S:
        return _without_channel(child)
    waited_s = now_s - child.since_s
    if child.being_replaced and waited_s >= SCHEDULER_LEAVE_S:
        return Kill(child.worker_id, "did not end when replaced", STUCK)
    if child.state is ChildState.LEAVING and waited_s >= LEAVE_S:
        return Kill(child.worker_id, "did not exit after its last word", STUCK)
    if child.state is ChildState.BOOTING and waited_s >= BOOT_S and not child.storage_error:
        return Kill(child.worker_id, f"not ready {BOOT_S:g} s after its start", STUCK)
    if child.state is ChildState.SPAWNING and child.pid and waited_s >= BOOT_S:
        return Kill(child.worker_id, f"silent for {BOOT_S:g} s after its start", STUCK)
    if child.state in (ChildState.READY, ChildState.DRAINING):
        return _stuck(fleet, child, now_s)
    return None


def _without_channel(child: Child) -> Action:
    if child.pid:
        return Kill(child.worker_id, "its channel is broken", AT_ONCE)
    return DeclareDead(child.worker_id)


def _stuck(fleet: Fleet, child: Child, now_s: float) -> Kill | None:
    seen = fleet.observations.get(child.worker_id)
    if seen is None:
        return None
    if seen.beat_age_s is not None and seen.beat_age_s > _patience_s(child):
        if child.role == "scheduler":
            return Kill(child.worker_id, f"no beat for {seen.beat_age_s:.1f} s", STUCK)
        return Kill(child.worker_id, f"hung: no beat for {seen.beat_age_s:.1f} s", HUNG)
    if not fleet.kills_overdue:
        return None
    if seen.revoked is not None and now_s >= seen.revoked_ns / 1e9 + REVOKED_S:
        return Kill(child.worker_id, f"revoked: {seen.revoked.task} goes on", HUNG)
    if seen.overdue is not None:
        return Kill(child.worker_id, f"timeout of {seen.overdue.task}", HUNG, (seen.overdue,))
    return None


def _patience_s(child: Child) -> float:
    if child.storage_error:
        return STORAGE_DOWN_BEAT_S
    if child.load.computes:
        return COMPUTING_BEAT_S
    return SCHEDULER_BEAT_S if child.role == "scheduler" else WORKER_BEAT_S


def next_rung(child: Child, now_s: float) -> Iterator[Action]:
    """A child that has no pid yet is killed once it has one, or given up."""
    if child.pid:
        if child.kill.taken < len(child.kill.ladder):
            after_s, signal = child.kill.ladder[child.kill.taken]
            if now_s >= child.since_s + after_s:
                yield SendSignal(child.worker_id, signal)
    elif now_s >= child.since_s + HANG_UP_S:
        yield DeclareDead(child.worker_id)

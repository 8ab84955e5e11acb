"""Decides which worker has served long enough, or serves no more.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.settings import MIB
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.actions import Action, Replace
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.limits import WorkerLimits
from taskqd.supervisor.state.observation import Observation

UNRESPONSIVE = "deaf"
"""The first word of the reason, as the log has always had it."""
SHARE = 10
"""At most one worker in so many is recycled at once, or one."""
BEATS_S = 10.0
"""A worker whose beat is older is judged by that alone."""
JITTER = 0.1
"""A share: workers that have started together shall not leave together."""
FAT_AFTER_S = 10.0
"""An app that is over its limit from the start must not have its workers replaced all the time."""


def recycle(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Yield the replacement of one worker that has served long enough, or serves no more."""
    leaving = sum(child.recycled for child in fleet.living_workers())
    if len(list(fleet.successors())) + leaving >= max(1, fleet.wanted() // SHARE):
        return
    for post in fleet.workers:
        if post.active and post.replaces is None and post.child is not None:
            seen = fleet.observations.get(post.child.worker_id)
            reason = unresponsive(fleet, post.child, now_s)
            reason = reason or overdue(post.child, seen, fleet.limits, now_s)
            if reason:
                if (free := fleet.vacant_post()) is not None:
                    yield Replace(post.number, free.number, reason)
                return


def overdue(child: Child, seen: Observation | None, limits: WorkerLimits, now_s: float) -> str:
    """Return why a worker shall be recycled, "" if it shall not."""
    if child.state is not ChildState.READY or child.ready_s is None or seen is None:
        return ""
    jobs, age_s = sum(seen.counters), now_s - child.ready_s
    if limits.jobs is not None and jobs >= max(1.0, limits.jobs * child.jitter):
        return f"max_jobs: {jobs} jobs"
    if limits.age_s is not None and age_s >= limits.age_s * child.jitter:
        return f"max_age_s: {age_s:.0f} s"
    fat = limits.memory_bytes is not None and child.load.pss_bytes >= limits.memory_bytes
    if fat and age_s >= FAT_AFTER_S:
        return f"max_memory: {child.load.pss_bytes / MIB:.0f} MiB"
    return ""


def unresponsive(fleet: Fleet, child: Child, now_s: float) -> str:
    """Return what is wrong with a worker that lives and no longer consumes, "" if nothing is.

    While nobody else has an answer from the storage either, it is the storage that is away.
    """
    seen = fleet.observations.get(child.worker_id)
    if child.state is not ChildState.READY or child.role != "worker" or child.quiet or seen is None:
        return ""
    # One that computes without letting its other threads run cannot ask: that is judged by its beat.
    if seen.heard_age_s is None or seen.beat_age_s is None or seen.beat_age_s >= BEATS_S:
        return ""
    silent_s = min(seen.heard_age_s, now_s - child.asks_s)
    if silent_s < observation.UNRESPONSIVE_S or not _storage_answers(fleet, child):
        return ""
    error = f" ({child.storage_error})" if child.storage_error else ""
    return f"{UNRESPONSIVE}: no answer from the storage for {silent_s:.0f} s, while others have one{error}"


def _storage_answers(fleet: Fleet, child: Child) -> bool:
    """Return whether another worker has been answered all the time, or the scheduler if there is none.

    Just after an outage some are answered again before others.
    """
    others = [
        one for one in fleet.living_workers() if one is not child and one.state is ChildState.READY
    ]
    witnesses = others or [one for one in (fleet.scheduler_ready(),) if one is not None]
    seen = [
        fleet.observations[one.worker_id]
        for one in witnesses
        if one.worker_id in fleet.observations
    ]
    return any(_hears(one) for one in seen)


def _hears(seen: Observation) -> bool:
    if seen.heard_age_s is None or seen.heard_age_s >= observation.gap_s():
        return False
    return seen.steady_s + seen.heard_age_s >= observation.UNRESPONSIVE_S


def jitter(chance: float) -> float:
    """Return a factor around 1; `chance` is uniform in 0..1."""
    return 1.0 + JITTER * (2.0 * chance - 1.0)

"""Decides whether the daemon goes on at all, in which order it ends, and how a worker drains.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.supervisor.state import timeline
from taskqd.supervisor.state.actions import (
    HUNG,
    Action,
    BeginStop,
    Finish,
    InterruptWorker,
    Kill,
    RequestRecovery,
    RetireScheduler,
    RetireZygote,
)
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState

BOOTS_MAX = 3
"""So many failed boots of every post, and none that ever served: give up."""
LOADS_MAX = 3
"""So many zygotes that died while they imported the app, and none that did not: give up."""


def go_on_or_stop(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Stop without having been asked: nothing can ever run, or nothing is left to run."""
    if fleet.stop is not None:
        return
    if not fleet.served and (end := _never_served(fleet, now_s)):
        yield end
    elif fleet.burst and _nothing_left(fleet):
        yield BeginStop("burst", 0, now=False)


def _never_served(fleet: Fleet, now_s: float) -> BeginStop | None:
    if fleet.app_error and fleet.loaded_s is None:
        return BeginStop("app", 78, now=True)
    if fleet.zygote_failures >= LOADS_MAX:
        return BeginStop("app", 78, True, "the process that imports the app dies each time")
    if error := _unreachable(fleet, now_s):
        return BeginStop("storage", 69, True, error)
    tried = [post for post in fleet.posts if post.boots_failed]
    if not tried or any(post.boots_failed < BOOTS_MAX for post in tried):
        return None
    if fleet.scheduler.boots_failed or len(tried) >= fleet.wanted():
        code = 69 if all(post.last_step == "storage" for post in tried) else 70
        return BeginStop("boot", code, True, tried[0].last_error)
    return None


def _unreachable(fleet: Fleet, now_s: float) -> str:
    """Return the storage's error if all children have waited for it in vain."""
    children = list(fleet.children())
    if fleet.loaded_s is None or now_s < fleet.loaded_s + fleet.connect_wait_s or not children:
        return ""
    if not all(child.storage_error for child in children):
        return ""
    wait = f"storage not reached in {fleet.connect_wait_s:g} s"
    return f"{wait}: {children[0].storage_error}"


def _nothing_left(fleet: Fleet) -> bool:
    workers = fleet.living_workers()
    return (
        bool(workers)
        and len(workers) >= fleet.wanted()
        and all(_is_empty(fleet, c) for c in workers)
    )


def _is_empty(fleet: Fleet, child: Child) -> bool:
    """It said so, and has neither run nor finished anything since."""
    seen = fleet.observations.get(child.worker_id)
    return seen is not None and not seen.busy and child.empty_at == seen.counters


def last_steps(fleet: Fleet, now_s: float) -> list[Action]:
    """Return the last steps of a stop, [] as long as it is not time for them."""
    assert fleet.stop is not None
    times = fleet.stop.timeline
    if now_s >= times.end_s:
        return [Finish(fleet.stop.exit_code)]
    waits = bool(fleet.living_workers()) or bool(fleet.pending_recoveries)
    if waits and now_s < times.retire_s:
        return []
    if fleet.scheduler.child is not None:
        return _retire(fleet)
    living = [z for z in fleet.zygotes if z.state is not ZygoteState.DEAD]
    told = [z for z in living if z.state is ZygoteState.LEAVING]
    if living and len(told) == len(living):
        return []
    return [RetireZygote(z.generation) for z in living] or [Finish(fleet.stop.exit_code)]


def _retire(fleet: Fleet) -> list[Action]:
    assert fleet.stop is not None
    return [] if fleet.stop.retired else [RetireScheduler()]


def draining(
    fleet: Fleet, child: Child, times: timeline.Timeline, now_s: float
) -> Iterator[Action]:
    """Yield what is due for a worker that drains, in a stop of its own or of the daemon."""
    if child.state is not ChildState.DRAINING:
        return
    seen = fleet.observations.get(child.worker_id)
    if child.late and seen is not None and seen.over and not child.drain.interrupted:
        alone = len(seen.over) == len(seen.busy)
        if alone or seen.blocked or now_s >= times.interrupt_s:
            # Its siblings are done, or cannot be, or have had their time.
            reason = f"timeout of {seen.over[0].task}"
            yield Kill(child.worker_id, reason, HUNG, seen.over)
            return
    if now_s >= times.interrupt_s and not child.drain.interrupted:
        yield InterruptWorker(child.worker_id)
    if now_s >= times.recover_s and not child.drain.recovery_requested:
        yield RequestRecovery(child.worker_id, "interrupted")
    if now_s >= times.term_s:
        steps = ((0.0, "SIGTERM"), (max(times.kill_s - now_s, 0.0), "SIGKILL"))
        yield Kill(child.worker_id, "stop: its grace is over", steps)

"""Decides what the master does now: fleet and time -> actions.  Pure, and level-triggered.

`plan` looks at what is, not at what has happened, so a lost wake-up or a doubled event changes
nothing.  Each action changes the fleet so that the next plan does not ask for it again; the master
plans until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Quiet, Resume, Serve
from taskqd.supervisor.state import timeline
from taskqd.supervisor.state.actions import (
    Action,
    DrainWorker,
    SendRecovery,
    Tell,
)
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet
from taskqd.supervisor.state.lifecycle import ChildState

from .faults import fault, next_rung
from .memory import must_rest, shed
from .reload import renew
from .shutdown import draining, go_on_or_stop, last_steps
from .spawning import fill_posts, start_or_end_zygotes

TICK_S = 1.0
BUSY_TICK_S = 0.1
"""While something is under way that is judged by the clock."""
_MAY_SERVE = (ChildState.SPAWNING, ChildState.BOOTING, ChildState.READY)


def plan(fleet: Fleet, now_s: float) -> list[Action]:
    """Return what to do now; [] if nothing."""
    if fleet.stop is not None and (end := last_steps(fleet, now_s)):
        return end
    return [
        *start_or_end_zygotes(fleet, now_s),
        *fill_posts(fleet, now_s),
        *renew(fleet, now_s),
        *shed(fleet, now_s),
        *(action for child in fleet.children() for action in _child(fleet, child, now_s)),
        *_queues(fleet),
        *_recoveries(fleet),
        *go_on_or_stop(fleet, now_s),
    ]


def wake_in_s(fleet: Fleet, now_s: float) -> float:
    """Return how long the master may sleep if nothing is heard."""
    if (
        fleet.stop is not None
        or fleet.reload is not None
        or any(_hurried(child) for child in fleet.children())
    ):
        return BUSY_TICK_S
    if any(seen.late for seen in fleet.observations.values()):
        return BUSY_TICK_S
    due = [post.spawn_at_s for post in fleet.posts if post.active and post.child is None]
    due.append(fleet.zygote_at_s)
    return min([TICK_S, *(at_s - now_s for at_s in due if at_s > now_s)])


def _hurried(child: Child) -> bool:
    if child.hung_up_s is not None or child.stacks.readable_s is not None:
        return True
    return child.state in (ChildState.DYING, ChildState.DRAINING)


# -- children ----------------------------------------------------------------------------------


def _child(fleet: Fleet, child: Child, now_s: float) -> Iterator[Action]:
    if child.state is ChildState.DYING:
        yield from next_rung(child, now_s)
    elif condemned := fault(fleet, child, now_s):
        yield condemned
    elif child.role == "worker":
        yield from _worker(fleet, child, now_s)


def _worker(fleet: Fleet, child: Child, now_s: float) -> Iterator[Action]:
    if child.drain.timeline is not None:
        yield from draining(fleet, child, child.drain.timeline, now_s)
    elif child.state in _MAY_SERVE:
        if fleet.stop is not None:
            yield DrainWorker(child.worker_id, fleet.stop.timeline)
        elif not fleet.workers[child.number].active:
            yield DrainWorker(child.worker_id, timeline.begin(now_s, fleet.grace_s))
        elif late := _overdue(fleet, child):
            yield DrainWorker(child.worker_id, timeline.begin(now_s, fleet.grace_s), (late,))
        elif child.quiet is not (rest := must_rest(fleet, child)):
            yield Tell(child.worker_id, Quiet() if rest else Resume())


def _overdue(fleet: Fleet, child: Child) -> SlotView | None:
    """Return the job that is past its deadline in a worker of several slots."""
    seen = fleet.observations.get(child.worker_id)
    return seen.overdue if seen is not None and child.state is ChildState.READY else None


# -- the scheduler's business ---------------------------------------------------------------------


def _queues(fleet: Fleet) -> Iterator[Action]:
    """Workers of two generations may lease from different queues: one scheduler serves them all."""
    scheduler = fleet.scheduler.child
    if scheduler is None or scheduler.state not in _MAY_SERVE:
        return
    leased = {queue for child in fleet.living_workers() for queue in child.queues}
    if missing := leased - {*scheduler.queues}:
        yield Tell(scheduler.worker_id, Serve((*scheduler.queues, *sorted(missing))))


def _recoveries(fleet: Fleet) -> Iterator[Action]:
    """A recovery is sent once to each scheduler, until one has answered."""
    scheduler = fleet.scheduler_ready()
    if scheduler is None:
        return
    for worker_id, recovery in fleet.pending_recoveries.items():
        if recovery.sent_to != scheduler.worker_id:
            yield SendRecovery(worker_id)

"""Fleets as `plan` may find them."""

from __future__ import annotations

from typing import Any

from taskqd.ipc.board import SlotView
from taskqd.supervisor.policy.plan import plan
from taskqd.supervisor.state import actions, timeline
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet, Post, Stop, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.observation import Observation
from taskqd.supervisor.state.reload import Reload, ReloadStep

NOW = 1000.0
SPARE_ROWS = 2


def fleet_of(workers: int = 2, rows: int | None = None, **changes: Any) -> Fleet:
    """Return a fleet that serves: a loaded zygote, a scheduler and `workers` workers, all ready."""
    rows = workers + SPARE_ROWS if rows is None else rows
    fleet = Fleet(
        workers=[Post(n, "worker", active=n < workers) for n in range(rows)],
        scheduler=Post(rows, "scheduler", active=True),
        grace_s=25.0,
        connect_wait_s=30.0,
        kills_overdue=True,
        zygotes=[Zygote(1, 100, NOW - 60, ZygoteState.LOADED)],
        generation=1,
        loaded_s=NOW - 60,
        served=True,
    )
    for post in [fleet.scheduler, *fleet.workers[:workers]]:
        post.child = child_of(post)
    for name, value in changes.items():
        setattr(fleet, name, value)
    fleet.observations = {child.worker_id: seen_of() for child in fleet.children()}
    return fleet


def child_of(
    post: Post, state: ChildState = ChildState.READY, generation: int = 1, **changes: Any
) -> Child:
    child = Child(f"n.{post.number}", post.role, post.number, generation, NOW - 50, state, NOW - 40)
    child.pid = 200 + post.number
    child.ready_s = NOW - 40 if state is ChildState.READY else None
    for name, value in changes.items():
        setattr(child, name, value)
    return child


def seen_of(beat_age_s: float | None = 0.5, busy: bool = False, **changes: Any) -> Observation:
    view = [SlotView(0, 7, 0, 0, "job-7", "shop.slow")] if busy else []
    return Observation(beat_age_s, view, (0, 0, 0, 0), **changes)


def scheduler_id(fleet: Fleet) -> str:
    child = fleet.scheduler.child
    assert child is not None
    return child.worker_id


def worker(fleet: Fleet, number: int = 0) -> Child:
    child = fleet.workers[number].child
    assert child is not None
    return child


def stopping(fleet: Fleet, begun_s: float = NOW, **changes: Any) -> Fleet:
    fleet.stop = Stop(timeline.begin(begun_s, fleet.grace_s), "SIGTERM", **changes)
    return fleet


def condemned(fleet: Fleet, now_s: float = NOW) -> actions.Kill:
    (action,) = plan(fleet, now_s)
    assert isinstance(action, actions.Kill)
    return action


def reloading(step: ReloadStep = ReloadStep.IMPORT, **changes: Any) -> Fleet:
    """Return a fleet whose reload has come to `step`; from the trial on, with a canary at post 2."""
    fleet = fleet_of(generation=2)
    fleet.zygotes.append(Zygote(2, 101, NOW, ZygoteState.LOADED))
    fleet.reload = Reload(1, "SIGHUP", 2, NOW, step, since_s=NOW)
    if step is not ReloadStep.IMPORT:
        post = fleet.workers[2]
        post.active, post.replaces, post.reason = True, 0, "reload"
        post.child = child_of(post, generation=2)
        post.child.ready_s = NOW
        fleet.reload.canary = 2
    for name, value in changes.items():
        setattr(fleet.reload, name, value)
    return fleet

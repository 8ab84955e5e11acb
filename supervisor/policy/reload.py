"""Decides how workers are replaced by successors that serve before they take over.  Pure.

A successor has a post of its own, so for a moment two workers stand in for one.
"""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.supervisor.state.actions import (
    AbortReload,
    Action,
    BeginReload,
    EndReload,
    Promote,
    Replace,
    ReplaceScheduler,
    RetireZygote,
    RollBack,
    SpawnCanary,
    TakeOver,
)
from taskqd.supervisor.state.child import Child
from taskqd.supervisor.state.fleet import Fleet, Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState
from taskqd.supervisor.state.reload import Reload, ReloadStep

from .recycling import recycle

IMPORT_S = 60.0
"""An import that takes longer hangs."""
CANARY_BOOT_S = 75.0
"""From the canary's spawn until it serves; a little more than a boot that hangs is given."""
TRIAL_S = 1.0
"""So long the canary serves before the others follow."""


def renew(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Return what brings reload and recycling forward; nothing once the daemon stops."""
    if fleet.stop is not None:
        return
    yield from _successions(fleet)
    if fleet.reload is not None:
        yield from _reload(fleet, fleet.reload, now_s)
    elif fleet.reload_asked and fleet.served:
        yield BeginReload()
    else:
        yield from recycle(fleet, now_s)


def _successions(fleet: Fleet) -> Iterator[Action]:
    """A successor that serves takes over; the canary only when its trial is over."""
    for post in fleet.successors():
        serves = post.child is not None and post.child.state is ChildState.READY
        if serves and not fleet.on_trial(post):
            yield TakeOver(post.number)


# -- reload ------------------------------------------------------------------------------------


def _reload(fleet: Fleet, reload: Reload, now_s: float) -> Iterator[Action]:
    if reload.step is ReloadStep.BACK:
        yield from _roll(fleet, reload)
    elif reload.step is ReloadStep.ROLL:
        yield from _turn_back(fleet, reload) or _roll(fleet, reload)
    elif reload.failed_at:
        yield AbortReload(reload.failed_at, reload.error)
    elif reload.step is ReloadStep.IMPORT:
        yield from _import(fleet, reload, now_s)
    else:
        yield from _trial(fleet, reload, now_s)


def _import(fleet: Fleet, reload: Reload, now_s: float) -> Iterator[Action]:
    zygote = fleet.zygote_of(reload.generation)
    if zygote is None:
        yield AbortReload("import", "no process could be started to import the app")
    elif zygote.state is ZygoteState.LOADED:
        if (free := fleet.vacant_post()) is not None:
            yield SpawnCanary(free.number)
    elif now_s >= reload.since_s + IMPORT_S:
        yield AbortReload("import", f"the app was not imported within {IMPORT_S:g} s")


def _trial(fleet: Fleet, reload: Reload, now_s: float) -> Iterator[Action]:
    assert reload.canary is not None
    child = fleet.workers[reload.canary].child
    if child is None:
        yield AbortReload("boot", "the canary could not be spawned")
    elif child.state is ChildState.READY and child.ready_s is not None:
        if now_s >= child.ready_s + TRIAL_S:
            yield _verdict(fleet, reload)
    elif child.ready_s is None and now_s >= reload.since_s + CANARY_BOOT_S:
        wait = f"the canary did not serve within {CANARY_BOOT_S:g} s"
        yield AbortReload("boot", f"{wait}: {child.storage_error}" if child.storage_error else wait)


def _verdict(fleet: Fleet, reload: Reload) -> Action:
    zygote = fleet.zygote_of(reload.generation)
    if zygote is None or zygote.state is not ZygoteState.LOADED:
        return AbortReload("trial", "the process that imported the app is gone")
    return Promote()


def _turn_back(fleet: Fleet, reload: Reload) -> list[Action]:
    """Return what to do if the generation that is taking over turns out to be broken."""
    zygote = fleet.zygote_of(reload.generation)
    if zygote is None or zygote.state is not ZygoteState.LOADED:
        reload.fail("roll", "the process that imported the app is gone")
    if not reload.failed_at:
        return []
    if not any(z.generation in reload.old for z in _loaded(fleet)):
        gone = "and cannot be taken back, since the old generation's zygote is gone"
        return [AbortReload(reload.failed_at, f"{reload.error}; {gone}")]
    return [RollBack()]


def _loaded(fleet: Fleet) -> list[Zygote]:
    return [zygote for zygote in fleet.zygotes if zygote.state is ZygoteState.LOADED]


def _roll(fleet: Fleet, reload: Reload) -> Iterator[Action]:
    """Replace one worker after the other, then the scheduler; the zygote goes last."""
    if any(True for _ in fleet.successors()):
        return
    left = [post for post in fleet.workers if post.active and _is_old(post.child, reload)]
    if left:
        if (free := fleet.vacant_post()) is not None:
            yield Replace(left[0].number, free.number, "reload")
        return
    scheduler = fleet.scheduler.child
    if scheduler is not None and _is_old(scheduler, reload):
        if not scheduler.being_replaced:
            yield ReplaceScheduler()
    elif fleet.scheduler_ready():
        left_behind = [z.generation for z in _loaded(fleet) if z.generation in reload.old]
        yield from map(RetireZygote, left_behind)
        if not any(zygote.generation in reload.old for zygote in fleet.zygotes):
            yield EndReload()


def _is_old(child: Child | None, reload: Reload) -> bool:
    return child is not None and child.generation in reload.old

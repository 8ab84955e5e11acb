"""Decides which zygotes and children are started, and when a zygote is ended.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.supervisor.state.actions import Action, KillZygote, SpawnChild, StartZygote
from taskqd.supervisor.state.fleet import Fleet, Post, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildState

from .faults import HANG_UP_S

SPAWN_S = 15.0
"""A zygote that answers a request by no child for so long is stuck."""
ZYGOTE_LEAVE_S = 5.0
"""From the order to exit until a zygote is killed."""


def start_or_end_zygotes(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Yield the start of a zygote that is needed, and the end of each that hangs."""
    useful = (ZygoteState.LOADING, ZygoteState.LOADED)
    living = [z for z in fleet.zygotes if z.state in useful and z.generation != fleet.candidate]
    if not living and _forks_wanted(fleet, now_s) and now_s >= fleet.zygote_at_s:
        yield StartZygote(fleet.generation + 1)
    for zygote in fleet.zygotes:
        if zygote.killed_for:
            continue
        if zygote.hung_up_s is not None and now_s >= zygote.hung_up_s + HANG_UP_S:
            yield KillZygote(zygote.generation, "its channel is broken")
        elif zygote.state is ZygoteState.LEAVING and now_s >= zygote.since_s + ZYGOTE_LEAVE_S:
            yield KillZygote(zygote.generation, "did not exit when told")
        elif _spawns_hang(fleet, zygote.generation, now_s):
            yield KillZygote(zygote.generation, f"forked nothing for {SPAWN_S:g} s")


def _forks_wanted(fleet: Fleet, now_s: float) -> bool:
    if fleet.stop is None:
        return True
    return fleet.scheduler.child is None and _scheduler_needed(fleet, now_s)


def _spawns_hang(fleet: Fleet, generation: int, now_s: float) -> bool:
    return any(
        child.generation == generation
        and child.state is ChildState.SPAWNING
        and not child.pid
        and now_s >= child.spawned_s + SPAWN_S
        for child in fleet.children()
    )


def fill_posts(fleet: Fleet, now_s: float) -> Iterator[Action]:
    """Yield a spawn for each post that shall be filled now; workers wait for the first scheduler."""
    if fleet.zygote() is None:
        return
    if _vacant(fleet.scheduler, now_s) and _scheduler_needed(fleet, now_s):
        yield SpawnChild(fleet.scheduler.number)
    if fleet.stop is not None or not (fleet.served or fleet.scheduler_ready()):
        return
    for post in fleet.workers:
        if post.active and _vacant(post, now_s) and not fleet.on_trial(post):
            yield SpawnChild(post.number)


def _vacant(post: Post, now_s: float) -> bool:
    return post.child is None and now_s >= post.spawn_at_s


def _scheduler_needed(fleet: Fleet, now_s: float) -> bool:
    """Leases are renewed, and recoveries sent, until the last worker's last word, or the time is over."""
    if fleet.stop is None:
        return True
    if now_s >= fleet.stop.timeline.retire_s:
        return False
    return not fleet.stop.retired and bool(fleet.living_workers() or fleet.pending_recoveries)

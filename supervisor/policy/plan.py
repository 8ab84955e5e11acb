"""Decides: fleet and time -> actions.  Pure, and level-triggered.

`plan` looks at what is, not at what has happened, so a lost wake-up or a doubled event changes
nothing.  Each action changes the fleet so that the next plan does not ask for it again; the master
plans until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Quiet, Resume, Serve
from taskqd.supervisor.state import timeline as stop
from taskqd.supervisor.state.actions import (
    AT_ONCE,
    Action,
    Condemn,
    Drain,
    GiveUp,
    Interrupt,
    KillZygote,
    Ladder,
    Owe,
    Pay,
    Signal,
    Spawn,
    StartZygote,
    Tell,
)
from taskqd.supervisor.state.fleet import Child, Fleet, Post, ZygoteState
from taskqd.supervisor.state.lifecycle import State

from .memory import relieve, rests
from .reload import renew
from .shutdown import go_on_or_stop, last_steps

SCHEDULER_BEAT_S = 2.5
"""A scheduler that has not beaten for so long is replaced."""
WORKER_BEAT_S = 10.0
HOG_BEAT_S = 120.0
"""Patience with a worker that computes without letting its other threads run (C code may)."""
STORAGE_DOWN_BEAT_S = 30.0
"""Patience with a child that said that its storage is gone: a call may take its whole deadline."""
REVOKED_S = 5.0
"""Patience with a revoked job that has a process to itself."""
SPAWN_S = 15.0
"""A zygote that answers a request by no child for so long is stuck."""
BOOT_S = 60.0
LEAVE_S = 5.0
"""From a child's last word to its exit."""
RELIEVE_S = 8.0
"""From a scheduler's relief to its exit: it runs its last errands."""
HANG_UP_S = 1.0
"""From a broken channel to the death of its other end."""

HUNG: Ladder = ((0.0, "SIGUSR1"), (0.3, "SIGTERM"), (1.3, "SIGKILL"))
STUCK: Ladder = ((0.0, "SIGUSR1"), (0.2, "SIGKILL"))

TICK_S = 1.0
BUSY_TICK_S = 0.1
"""While something is under way that is judged by the clock."""


def plan(fleet: Fleet, now_s: float) -> list[Action]:
    """Return what to do now; [] if nothing."""
    if fleet.stop is not None and (end := last_steps(fleet, now_s)):
        return end
    return [
        *_zygotes(fleet, now_s),
        *_posts(fleet, now_s),
        *renew(fleet, now_s),
        *relieve(fleet, now_s),
        *(action for child in fleet.children() for action in _child(fleet, child, now_s)),
        *_queues(fleet),
        *_debts(fleet),
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
    if any(seen.late for seen in fleet.seen.values()):
        return BUSY_TICK_S
    due = [post.spawn_at_s for post in fleet.posts if post.active and post.child is None]
    due.append(fleet.zygote_at_s)
    return min([TICK_S, *(at_s - now_s for at_s in due if at_s > now_s)])


def _hurried(child: Child) -> bool:
    if child.hung_up_s is not None or child.stacks_at_s is not None:
        return True
    return child.state in (State.DYING, State.DRAINING)


# -- zygotes -----------------------------------------------------------------------------------


def _zygotes(fleet: Fleet, now_s: float) -> Iterator[Action]:
    useful = (ZygoteState.LOADING, ZygoteState.LOADED)
    living = [z for z in fleet.zygotes if z.state in useful and z.generation != fleet.candidate]
    if not living and _forks_wanted(fleet, now_s) and now_s >= fleet.zygote_at_s:
        yield StartZygote(fleet.generation + 1)
    for zygote in fleet.zygotes:
        if zygote.killed_for:
            continue
        if zygote.hung_up_s is not None and now_s >= zygote.hung_up_s + HANG_UP_S:
            yield KillZygote(zygote.generation, "its channel is broken")
        elif zygote.state is ZygoteState.LEAVING and now_s >= zygote.since_s + LEAVE_S:
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
        and child.state is State.SPAWNING
        and not child.pid
        and now_s >= child.spawned_s + SPAWN_S
        for child in fleet.children()
    )


# -- posts -------------------------------------------------------------------------------------


def _posts(fleet: Fleet, now_s: float) -> Iterator[Action]:
    if fleet.zygote() is None:
        return
    if _vacant(fleet.scheduler, now_s) and _scheduler_needed(fleet, now_s):
        yield Spawn(fleet.scheduler.number)
    if fleet.stop is not None or not (fleet.served or fleet.scheduler_ready()):
        return
    for post in fleet.workers:
        if post.active and _vacant(post, now_s) and not fleet.on_trial(post):
            yield Spawn(post.number)


def _vacant(post: Post, now_s: float) -> bool:
    return post.child is None and now_s >= post.spawn_at_s


def _scheduler_needed(fleet: Fleet, now_s: float) -> bool:
    """Leases are renewed, and debts paid, until the last worker's last word, or the time is over."""
    if fleet.stop is None:
        return True
    if now_s >= fleet.stop.line.retire_s:
        return False
    return not fleet.stop.retired and bool(fleet.crew() or fleet.debts)


# -- children ----------------------------------------------------------------------------------


def _child(fleet: Fleet, child: Child, now_s: float) -> Iterator[Action]:
    if child.state is State.DYING:
        yield from _next_rung(child, now_s)
    elif condemned := _fault(fleet, child, now_s):
        yield condemned
    elif child.role == "worker":
        yield from _worker(fleet, child, now_s)


def _next_rung(child: Child, now_s: float) -> Iterator[Action]:
    """A child that has no pid yet is killed once it has one, or given up."""
    if child.pid:
        if child.rungs < len(child.ladder):
            after_s, signal = child.ladder[child.rungs]
            if now_s >= child.since_s + after_s:
                yield Signal(child.worker_id, signal)
    elif now_s >= child.since_s + HANG_UP_S:
        yield GiveUp(child.worker_id)


def _fault(fleet: Fleet, child: Child, now_s: float) -> Action | None:
    """Return how to end a child that has broken a rule of its state, None if it has not."""
    if child.hung_up_s is not None and now_s >= child.hung_up_s + HANG_UP_S:
        return _without_channel(child)
    waited_s = now_s - child.since_s
    if child.relieved and waited_s >= RELIEVE_S:
        return Condemn(child.worker_id, "did not end when relieved", STUCK)
    if child.state is State.LEAVING and waited_s >= LEAVE_S:
        return Condemn(child.worker_id, "did not exit after its last word", STUCK)
    if child.state is State.BOOTING and waited_s >= BOOT_S and not child.storage_error:
        return Condemn(child.worker_id, f"not ready {BOOT_S:g} s after its start", STUCK)
    if child.state is State.SPAWNING and child.pid and waited_s >= BOOT_S:
        return Condemn(child.worker_id, f"silent for {BOOT_S:g} s after its start", STUCK)
    if child.state in (State.READY, State.DRAINING):
        return _stuck(fleet, child, now_s)
    return None


def _without_channel(child: Child) -> Action:
    if child.pid:
        return Condemn(child.worker_id, "its channel is broken", AT_ONCE)
    return GiveUp(child.worker_id)


def _stuck(fleet: Fleet, child: Child, now_s: float) -> Condemn | None:
    seen = fleet.seen.get(child.worker_id)
    if seen is None:
        return None
    if seen.beat_age_s is not None and seen.beat_age_s > _patience_s(child):
        if child.role == "scheduler":
            return Condemn(child.worker_id, f"no beat for {seen.beat_age_s:.1f} s", STUCK)
        return Condemn(child.worker_id, f"hung: no beat for {seen.beat_age_s:.1f} s", HUNG)
    if not fleet.kills_overdue:
        return None
    if seen.revoked is not None and now_s >= seen.revoked_ns / 1e9 + REVOKED_S:
        return Condemn(child.worker_id, f"revoked: {seen.revoked.task} goes on", HUNG)
    if seen.overdue is not None:
        return Condemn(child.worker_id, f"timeout of {seen.overdue.task}", HUNG, (seen.overdue,))
    return None


def _patience_s(child: Child) -> float:
    if child.storage_error:
        return STORAGE_DOWN_BEAT_S
    if child.hogs:
        return HOG_BEAT_S
    return SCHEDULER_BEAT_S if child.role == "scheduler" else WORKER_BEAT_S


def _worker(fleet: Fleet, child: Child, now_s: float) -> Iterator[Action]:
    if child.line is not None:
        yield from _draining(fleet, child, child.line, now_s)
    elif child.state in (State.SPAWNING, State.BOOTING, State.READY):
        if fleet.stop is not None:
            yield Drain(child.worker_id, fleet.stop.line)
        elif not fleet.workers[child.number].active:
            yield Drain(child.worker_id, stop.begin(now_s, fleet.grace_s))
        elif late := _overdue(fleet, child):
            yield Drain(child.worker_id, stop.begin(now_s, fleet.grace_s), (late,))
        elif child.quiet is not (rest := rests(fleet, child)):
            yield Tell(child.worker_id, Quiet() if rest else Resume())


def _overdue(fleet: Fleet, child: Child) -> SlotView | None:
    """Return the job that is past its deadline in a worker of several slots."""
    seen = fleet.seen.get(child.worker_id)
    return seen.overdue if seen is not None and child.state is State.READY else None


def _draining(fleet: Fleet, child: Child, line: stop.Timeline, now_s: float) -> Iterator[Action]:
    if child.state is not State.DRAINING:
        return
    seen = fleet.seen.get(child.worker_id)
    if child.late and seen is not None and seen.over and not child.interrupted:
        alone = len(seen.over) == len(seen.busy)
        if alone or seen.blocked or now_s >= line.interrupt_s:
            # Its siblings are done, or cannot be, or have had their time.
            reason = f"timeout of {seen.over[0].task}"
            yield Condemn(child.worker_id, reason, HUNG, seen.over)
            return
    if now_s >= line.interrupt_s and not child.interrupted:
        yield Interrupt(child.worker_id)
    if now_s >= line.take_back_s and not child.taken_back:
        yield Owe(child.worker_id, "interrupted")
    if now_s >= line.term_s:
        steps = ((0.0, "SIGTERM"), (max(line.kill_s - now_s, 0.0), "SIGKILL"))
        yield Condemn(child.worker_id, "stop: its grace is over", steps)


# -- the scheduler's business ---------------------------------------------------------------------


def _queues(fleet: Fleet) -> Iterator[Action]:
    """Workers of two generations may lease from different queues: one scheduler serves them all."""
    scheduler = fleet.scheduler.child
    if scheduler is None or scheduler.state not in (State.SPAWNING, State.BOOTING, State.READY):
        return
    missing = {queue for child in fleet.crew() for queue in child.queues} - {*scheduler.queues}
    if missing:
        yield Tell(scheduler.worker_id, Serve((*scheduler.queues, *sorted(missing))))


# -- debts -------------------------------------------------------------------------------------


def _debts(fleet: Fleet) -> Iterator[Action]:
    scheduler = fleet.scheduler_ready()
    if scheduler is None:
        return
    for worker_id, debt in fleet.debts.items():
        if debt.sent_to != scheduler.worker_id:
            yield Pay(worker_id)

"""Carries out reloads and replacements: begins, promotes or gives up a generation; prepares successors."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from taskqd.ipc import messages
from taskqd.logs import events
from taskqd.settings import Settings
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.policy.recycling import UNRESPONSIVE
from taskqd.supervisor.state import timeline
from taskqd.supervisor.state.actions import (
    AbortReload,
    BeginReload,
    EndReload,
    Promote,
    ReloadAction,
    Replace,
    ReplaceScheduler,
    RollBack,
    SpawnCanary,
    TakeOver,
)
from taskqd.supervisor.state.fleet import Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import ChildEvent
from taskqd.supervisor.state.limits import limits_of
from taskqd.supervisor.state.reload import (
    OUTCOMES_KEPT,
    Reload,
    ReloadOutcome,
    ReloadStep,
    fixed_changes,
    refusal,
)

from .spawner import Spawner

ReadSettings = Callable[[], Settings]
"""Reads the configuration again.  Raises any exception where it is wrong."""


class Reloader:
    def __init__(
        self, context: MasterContext, spawner: Spawner, read_settings: ReadSettings | None
    ) -> None:
        self._context = context
        self._fleet = context.fleet
        self._spawner = spawner
        self._read_settings = read_settings or (lambda: context.settings)
        self.outcomes: dict[int, ReloadOutcome] = {}
        """By number of the reload, the latest ones."""

    def do(self, action: ReloadAction) -> None:
        """Carry out one action; the type checker knows that none is missing."""
        match action:
            case BeginReload():
                self._begin(*action)
            case SpawnCanary():
                self._spawn_canary(*action)
            case Promote():
                self._promote(*action)
            case AbortReload():
                self._abort(*action)
            case RollBack():
                self._roll_back(*action)
            case EndReload():
                self._end(*action)
            case Replace():
                self._replace(*action)
            case TakeOver():
                self._hand_over(*action)
            case ReplaceScheduler():
                self._replace_scheduler(*action)
            case _:
                assert_never(action)

    def ask(self, by: str) -> int:
        """Ask for a reload that reads everything from now on; returns its number.

        Those who ask before it has begun share it.
        """
        self._fleet.reload_asked.append(by)
        return self._fleet.reloads_begun + 1

    # -- the way of a reload -----------------------------------------------------------------------

    def _begin(self) -> None:
        context, fleet = self._context, self._fleet
        by = ", ".join(dict.fromkeys(fleet.reload_asked))
        fleet.reload_asked.clear()
        fleet.reloads_begun += 1
        now_s = context.clock()
        reload = Reload(fleet.reloads_begun, by, fleet.generation + 1, now_s, since_s=now_s)
        fleet.reload = reload
        if fleet.quiet:
            reload.fail("quiet", "the daemon is quiet, so no new worker could prove that it serves")
            return
        try:
            settings = self._read_settings()
        except Exception as error:
            # Whatever a configuration can raise, the present one goes on.
            reload.fail("config", str(error) or repr(error))
            return
        if fixed := fixed_changes(context.settings, settings):
            reload.fail("config", refusal(fixed))
            return
        context.log.emit(events.RELOAD_BEGUN, generation=reload.generation, by=by)
        self._spawner.start_zygote(reload.generation, settings)

    def _under_way(self) -> Reload:
        reload = self._fleet.reload
        assert reload is not None
        return reload

    def loaded(self, zygote: Zygote, said: messages.Loaded) -> bool:
        """Return whether this zygote is on trial; the app must still be the one that is served."""
        if zygote.generation != self._fleet.candidate:
            return False
        context = self._context
        for what, before, after in (
            ("name", context.app_name, said.app_name),
            ("storage", context.storage_url, said.storage_url),
        ):
            if before != after:
                self.fail("import", f"the app's {what} was {before!r} and is {after!r}; restart")
        return True

    def fail(self, step: str, error: str) -> None:
        if self._fleet.reload is not None:
            self._fleet.reload.fail(step, error)

    def _spawn_canary(self, number: int) -> None:
        fleet = self._fleet
        reload = self._under_way()
        zygote = fleet.zygote_of(reload.generation)
        assert zygote is not None
        reload.step, reload.since_s = ReloadStep.TRIAL, self._context.clock()
        reload.canary = number
        self._prepare(number)
        fleet.workers[number].reason = "reload"
        oldest = min(
            (post for post in fleet.regular() if post.number != number),
            key=lambda post: post.child.spawned_s if post.child else 0.0,
            default=None,
        )
        if oldest is not None:
            fleet.workers[number].replaces = oldest.number
        self._spawner.spawn_from(zygote, number)

    def _promote(self) -> None:
        context, fleet = self._context, self._fleet
        reload = self._under_way()
        zygote = fleet.zygote_of(reload.generation)
        assert zygote is not None
        others = [z for z in fleet.zygotes if z is not zygote]
        known = {child.generation for child in fleet.children()}
        reload.old = frozenset(known | {z.generation for z in others}) - {reload.generation}
        reload.step, reload.canary = ReloadStep.ROLL, None
        loaded = [z.generation for z in others if z.state is ZygoteState.LOADED]
        # The one to go back to; a later one was its stand-in during the trial.
        kept = max((number for number in loaded if number < reload.generation), default=0)
        for other in others:
            if other.generation != kept:
                self._spawner.retire_zygote(other.generation)
        reload.before = context.settings
        self._adopt(zygote.settings)
        context.queues = zygote.queues
        fleet.app_error = ""

    def _roll_back(self) -> None:
        """Let the old generation take over from the new one; what it still does, it goes on with."""
        context, fleet = self._context, self._fleet
        reload = self._under_way()
        assert reload.before is not None
        for post in list(fleet.successors()):
            post.active, post.replaces = False, None
        context.log.emit(
            events.RELOAD_ROLLED_BACK,
            generation=reload.generation,
            step=reload.failed_at,
            error=reload.error,
        )
        reload.step, reload.old = ReloadStep.BACK, frozenset({reload.generation})
        if fleet.zygote_of(reload.generation) is not None:
            self._spawner.retire_zygote(reload.generation)
        zygote = fleet.zygote()
        assert zygote is not None
        self._adopt(reload.before)
        context.queues = zygote.queues

    def _adopt(self, settings: Settings) -> None:
        context, fleet = self._context, self._fleet
        before, context.settings = context.settings, settings
        fleet.grace_s, fleet.limits = settings.shutdown.grace_s, limits_of(settings)
        count = settings.workers.count
        # A number that an operator has set by hand stays, unless the configuration's changes.
        if count != before.workers.count:
            self.resize(count)

    def resize(self, count: int) -> None:
        """Let so many workers run; those over it drain."""
        regular = self._fleet.regular()
        idle = [post for post in self._fleet.workers if not post.active]
        for post in regular[count:]:
            post.active = False
        for post in idle[: max(0, count - len(regular))]:
            post.active = True

    def _abort(self, step: str, error: str) -> None:
        fleet = self._fleet
        reload = self._under_way()
        if reload.canary is not None:
            canary = fleet.workers[reload.canary]
            canary.active, canary.replaces = False, None
        if reload.candidate and fleet.zygote_of(reload.candidate) is not None:
            self._spawner.retire_zygote(reload.candidate)
        self._close(reload, ReloadOutcome(False, self._serving(), step, error))

    def _serving(self) -> int:
        return max((child.generation for child in self._fleet.living_workers()), default=0)

    def stop(self) -> None:
        """The daemon stops: what is under way, or was asked for, does not happen."""
        reload = self._fleet.reload
        if reload is not None:
            self._close(
                reload, ReloadOutcome(False, self._serving(), reload.step, "the daemon stops")
            )

    def _end(self) -> None:
        reload = self._under_way()
        if reload.step is ReloadStep.BACK:
            outcome = ReloadOutcome(False, self._serving(), reload.failed_at, reload.error)
        else:
            outcome = ReloadOutcome(True, reload.generation)
        self._close(reload, outcome)

    def _close(self, reload: Reload, outcome: ReloadOutcome) -> None:
        context = self._context
        self._fleet.reload = None
        self.outcomes[reload.number] = outcome
        self.outcomes.pop(reload.number - OUTCOMES_KEPT, None)
        took_s = round(context.clock() - reload.begun_s, 3)
        facts = {"generation": reload.generation, "by": reload.by, "took_s": took_s}
        if outcome.ok:
            context.log.emit(events.MASTER_RELOADED, **facts)
        else:
            context.log.emit(events.RELOAD_ABORTED, **facts, step=outcome.step, error=outcome.error)

    # -- successors --------------------------------------------------------------------------------

    def _prepare(self, number: int) -> None:
        post = self._fleet.workers[number]
        post.active, post.failures, post.boots_failed = True, 0, 0
        post.last_step = post.last_error = ""
        post.spawn_at_s = self._context.clock()

    def _replace(self, old: int, new: int, reason: str) -> None:
        self._prepare(new)
        successor = self._fleet.workers[new]
        successor.replaces, successor.reason = old, reason
        if reason.startswith(UNRESPONSIVE):
            self._context.log.emit(events.WORKER_DEAF, worker=old, reason=reason)

    def _hand_over(self, number: int) -> None:
        new = self._fleet.workers[number]
        assert new.replaces is not None
        old = self._fleet.workers[new.replaces]
        # The place may have been given up in the meantime, and its successor's with it.
        new.active, old.active, new.replaces = old.active, False, None
        if new.reason != "reload" and old.child is not None:
            old.child.recycled = True
            self._context.log.emit(
                events.WORKER_RECYCLED,
                worker=old.number,
                generation=old.child.generation,
                successor=new.number,
                reason=new.reason,
            )

    def _replace_scheduler(self) -> None:
        scheduler = self._fleet.scheduler.child
        assert scheduler is not None
        scheduler.being_replaced = True
        scheduler.drain.timeline = timeline.begin(self._context.clock(), self._fleet.grace_s)
        scheduler.apply(ChildEvent.DRAIN, self._context.clock())
        self._context.connections.signal(scheduler.worker_id, "SIGTERM")

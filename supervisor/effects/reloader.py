"""Acts for reload and recycling: new generations begin, are promoted or given up; workers succeed."""

from __future__ import annotations

from collections.abc import Callable

from taskqd.ipc import messages
from taskqd.logs import events
from taskqd.settings import Settings
from taskqd.supervisor.context import House
from taskqd.supervisor.policy.recycling import DEAF
from taskqd.supervisor.state import timeline as stop
from taskqd.supervisor.state.actions import (
    AbortReload,
    BeginReload,
    EndReload,
    Promote,
    Relieve,
    Replace,
    RollBack,
    Supersede,
    Try,
)
from taskqd.supervisor.state.fleet import Zygote, ZygoteState
from taskqd.supervisor.state.lifecycle import Event
from taskqd.supervisor.state.limits import limits_of
from taskqd.supervisor.state.reload import (
    OUTCOMES_KEPT,
    Outcome,
    Reload,
    Step,
    fixed_changes,
    refusal,
)

from .spawner import Births

ReadSettings = Callable[[], Settings]
"""Reads the configuration again.  Raises any exception where it is wrong."""


class Reloader:
    def __init__(self, house: House, births: Births, read_settings: ReadSettings | None) -> None:
        self._house = house
        self._fleet = house.fleet
        self._births = births
        self._read_settings = read_settings or (lambda: house.settings)
        self._begun = 0
        self.outcomes: dict[int, Outcome] = {}
        """By number of the reload, the latest ones."""
        self.on_begin: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.acts: dict[type, Callable[..., None]] = {
            BeginReload: self._begin,
            Try: self._try,
            Promote: self._promote,
            AbortReload: self._abort,
            RollBack: self._roll_back,
            EndReload: self._end,
            Replace: self._replace,
            Supersede: self._supersede,
            Relieve: self._relieve,
        }

    def ask(self, by: str) -> int:
        """Ask for a reload that reads everything from now on; returns its number.

        Those who ask before it has begun share it.
        """
        self._fleet.reload_asked.append(by)
        return self._begun + 1

    # -- the way of a reload -----------------------------------------------------------------------

    def _begin(self) -> None:
        house, fleet = self._house, self._fleet
        by = ", ".join(dict.fromkeys(fleet.reload_asked))
        fleet.reload_asked.clear()
        self._begun += 1
        now_s = house.clock()
        reload = Reload(self._begun, by, fleet.generation + 1, now_s, since_s=now_s)
        fleet.reload = reload
        self.on_begin()
        if fleet.quiet:
            reload.fail("quiet", "the daemon is quiet, so no new worker could prove that it serves")
            return
        try:
            settings = self._read_settings()
        except Exception as error:
            # Whatever a configuration can raise, the present one goes on.
            reload.fail("config", str(error) or repr(error))
            return
        if fixed := fixed_changes(house.settings, settings):
            reload.fail("config", refusal(fixed))
            return
        house.log.emit(events.RELOAD_BEGUN, generation=reload.generation, by=by)
        self._births.start_zygote(reload.generation, settings)

    def _under_way(self) -> Reload:
        reload = self._fleet.reload
        assert reload is not None
        return reload

    def loaded(self, zygote: Zygote, said: messages.Loaded) -> bool:
        """Return whether this zygote is on trial; the app must still be the one that is served."""
        if zygote.generation != self._fleet.candidate:
            return False
        house = self._house
        for what, before, after in (
            ("name", house.app_name, said.app_name),
            ("storage", house.storage_url, said.storage_url),
        ):
            if before != after:
                self.fail("import", f"the app's {what} was {before!r} and is {after!r}; restart")
        return True

    def fail(self, step: str, error: str) -> None:
        if self._fleet.reload is not None:
            self._fleet.reload.fail(step, error)

    def _try(self, number: int) -> None:
        fleet = self._fleet
        reload = self._under_way()
        zygote = fleet.zygote_of(reload.generation)
        assert zygote is not None
        reload.step, reload.since_s = Step.TRIAL, self._house.clock()
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
        self._births.spawn_from(zygote, number)

    def _promote(self) -> None:
        house, fleet = self._house, self._fleet
        reload = self._under_way()
        zygote = fleet.zygote_of(reload.generation)
        assert zygote is not None
        others = [z for z in fleet.zygotes if z is not zygote]
        known = {child.generation for child in fleet.children()}
        reload.old = frozenset(known | {z.generation for z in others}) - {reload.generation}
        reload.step, reload.canary = Step.ROLL, None
        loaded = [z.generation for z in others if z.state is ZygoteState.LOADED]
        # The one to go back to; a later one was its stand-in during the trial.
        kept = max((number for number in loaded if number < reload.generation), default=0)
        for other in others:
            if other.generation != kept:
                self._births.retire_zygote(other.generation)
        reload.before = house.settings
        self._take_over(zygote.settings)
        house.queues = zygote.queues
        fleet.app_error = ""

    def _roll_back(self) -> None:
        """Let the old generation take over from the new one; what it still does, it goes on with."""
        house, fleet = self._house, self._fleet
        reload = self._under_way()
        assert reload.before is not None
        for post in list(fleet.successors()):
            post.active, post.replaces = False, None
        house.log.emit(
            events.RELOAD_ROLLED_BACK,
            generation=reload.generation,
            step=reload.failed_at,
            error=reload.error,
        )
        reload.step, reload.old = Step.BACK, frozenset({reload.generation})
        if fleet.zygote_of(reload.generation) is not None:
            self._births.retire_zygote(reload.generation)
        zygote = fleet.zygote()
        assert zygote is not None
        self._take_over(reload.before)
        house.queues = zygote.queues

    def _take_over(self, settings: Settings) -> None:
        house, fleet = self._house, self._fleet
        before, house.settings = house.settings, settings
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
            self._births.retire_zygote(reload.candidate)
        self._close(reload, Outcome(False, self._serving(), step, error))

    def _serving(self) -> int:
        return max((child.generation for child in self._fleet.crew()), default=0)

    def stop(self) -> None:
        """The daemon stops: what is under way, or was asked for, does not happen."""
        reload = self._fleet.reload
        if reload is not None:
            self._close(reload, Outcome(False, self._serving(), reload.step, "the daemon stops"))

    def _end(self) -> None:
        reload = self._under_way()
        if reload.step is Step.BACK:
            outcome = Outcome(False, self._serving(), reload.failed_at, reload.error)
        else:
            outcome = Outcome(True, reload.generation)
        self._close(reload, outcome)

    def _close(self, reload: Reload, outcome: Outcome) -> None:
        house = self._house
        self._fleet.reload = None
        self.outcomes[reload.number] = outcome
        self.outcomes.pop(reload.number - OUTCOMES_KEPT, None)
        took_s = round(house.clock() - reload.begun_s, 3)
        facts = {"generation": reload.generation, "by": reload.by, "took_s": took_s}
        if outcome.ok:
            house.log.emit(events.MASTER_RELOADED, **facts)
        else:
            house.log.emit(events.RELOAD_ABORTED, **facts, step=outcome.step, error=outcome.error)
        self.on_end()

    # -- successors --------------------------------------------------------------------------------

    def _prepare(self, number: int) -> None:
        post = self._fleet.workers[number]
        post.active, post.failures, post.boots_failed = True, 0, 0
        post.last_step = post.last_error = ""
        post.spawn_at_s = self._house.clock()

    def _replace(self, old: int, new: int, reason: str) -> None:
        self._prepare(new)
        successor = self._fleet.workers[new]
        successor.replaces, successor.reason = old, reason
        if reason.startswith(DEAF):
            self._house.log.emit(events.WORKER_DEAF, worker=old, reason=reason)

    def _supersede(self, number: int) -> None:
        new = self._fleet.workers[number]
        assert new.replaces is not None
        old = self._fleet.workers[new.replaces]
        # The place may have been given up in the meantime, and its successor's with it.
        new.active, old.active, new.replaces = old.active, False, None
        if new.reason != "reload" and old.child is not None:
            old.child.recycled = True
            self._house.log.emit(
                events.WORKER_RECYCLED,
                worker=old.number,
                generation=old.child.generation,
                successor=new.number,
                reason=new.reason,
            )

    def _relieve(self) -> None:
        scheduler = self._fleet.scheduler.child
        assert scheduler is not None
        scheduler.relieved = True
        scheduler.line = stop.begin(self._house.clock(), self._fleet.grace_s)
        scheduler.feel(Event.DRAIN, self._house.clock())
        self._house.lines.signal(scheduler.worker_id, "SIGTERM")

"""Carries out what operators ask for, by signal or over the admin socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import asdict

from taskqd.ipc import messages
from taskqd.logs import events
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.endpoints import status
from taskqd.supervisor.host import syscalls
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.fleet import Fleet

from .reloader import Reloader
from .stacks import Stacks
from .stopper import Stopper

Facts = dict[str, Any]
MEASURED_MAX = 8
"""Children whose memory is measured for one request: it costs the master a millisecond each."""


class Refused(Exception):
    """A request that cannot be met, and why."""


class Commands:
    def __init__(
        self, context: MasterContext, stopper: Stopper, reloader: Reloader, stacks: Stacks
    ) -> None:
        self._context = context
        self._fleet: Fleet = context.fleet
        self._stopper = stopper
        self._stacks = stacks
        self._reloader = reloader
        self._signals: dict[str, Callable[[], object]] = {
            "SIGTERM": lambda: self._terminate("SIGTERM"),
            "SIGINT": lambda: self._terminate("SIGINT"),
            "SIGQUIT": lambda: self.stop("SIGQUIT", now=True),
            "SIGHUP": lambda: self.reload("SIGHUP"),
            "SIGTSTP": lambda: self.quiet(by="SIGTSTP"),
            "SIGCONT": lambda: self.resume(by="SIGCONT"),
            "SIGTTIN": lambda: self._scale_by(+1, "SIGTTIN"),
            "SIGTTOU": lambda: self._scale_by(-1, "SIGTTOU"),
            "SIGUSR1": self.reopen,
            "SIGUSR2": self.dump_stacks,
        }
        self._requests: dict[str, Callable[[Facts], Facts]] = {
            "hello": lambda _ask: {"pid": os.getpid(), "instance": context.instance},
            "status": lambda _ask: status.everything(context, os.getpid()),
            "top": lambda _ask: self._top(),
            "probe": self._probe,
            "drain": lambda _ask: self.stop("drain"),
            "stop": lambda ask: self.stop("stop", now=bool(ask.get("now"))),
            "quiet": lambda _ask: self.quiet(by="command"),
            "resume": lambda _ask: self.resume(by="command"),
            "scale": self._scale,
            "stacks": self._report_stacks,
            "reload": self._reload,
        }

    def signal(self, name: str) -> None:
        """Do what a signal to the master means; SIGCHLD and unknown ones mean nothing here."""
        act = self._signals.get(name)
        if act is None:
            return
        try:
            act()
        except Refused as refused:
            self._context.log.emit(events.COMMAND_REFUSED, command=name, error=str(refused))

    def answer(self, request: Facts) -> Facts:
        """Answer one request of the admin socket."""
        act = self._requests.get(request["cmd"])
        if act is None:
            known = ", ".join(self._requests)
            return {"ok": False, "error": f"unknown command {request['cmd']!r}; there are {known}"}
        try:
            return {"ok": True, **act(request)}
        except Refused as refused:
            return {"ok": False, "error": str(refused)}

    # -- stop ----------------------------------------------------------------------------------

    def stop(self, cause: str, *, now: bool = False) -> Facts:
        """Begin a stop, unless one goes on; `now`: end its drain, and the second time kill."""
        stop = self._fleet.stop or self._stopper.begin(cause)
        if now:
            stop.hurried += 1
            self._stopper.hurry(kill=stop.hurried >= 2)
        return {"seconds_left": round(stop.timeline.end_s - self._context.clock(), 3)}

    def _terminate(self, cause: str) -> None:
        """Begin a stop; asked again: end the drain now; a third time: kill now.

        A command that has begun it is no signal: it may come from a hook that TERM follows.
        """
        again = self._fleet.stop is not None and self._fleet.stop.signalled
        self.stop(cause, now=again)
        if self._fleet.stop is not None:
            self._fleet.stop.signalled = True

    # -- quiet, scale, reload ------------------------------------------------------------------

    def quiet(self, *, by: str) -> Facts:
        self._refuse_if_stopping()
        if not self._fleet.quiet:
            self._fleet.quiet = True
            self._context.log.emit(events.MASTER_QUIETED, by=by)
        return {"state": status.state(self._fleet)}

    def resume(self, *, by: str) -> Facts:
        if self._fleet.quiet:
            self._fleet.quiet = False
            self._context.log.emit(events.MASTER_RESUMED, by=by)
        return {"state": status.state(self._fleet)}

    def _scale(self, request: Facts) -> Facts:
        count = request.get("count")
        if not isinstance(count, int) or isinstance(count, bool):
            raise Refused(f"scale: count must be a whole number, not {count!r}")
        return self.scale(count, by="command")

    def _scale_by(self, step: int, by: str) -> None:
        self.scale(self._fleet.wanted() + step, by=by)

    def scale(self, count: int, *, by: str) -> Facts:
        """Change how many workers shall run; those over the count drain."""
        self._refuse_if_stopping()
        most = len(self._fleet.workers)
        if not 1 <= count <= most:
            raise Refused(f"scale: expected 1 to {most} workers, not {count}")
        self._reloader.resize(count)
        self._context.log.emit(events.MASTER_SCALED, workers=count, by=by)
        return {"wanted": count}

    def reload(self, by: str) -> int:
        """Ask for a reload; returns its number."""
        self._refuse_if_stopping()
        return self._reloader.ask(by)

    def sources_changed(self, paths: Sequence[str]) -> None:
        """A stop, or an earlier request that has not begun yet, makes no difference."""
        if self._fleet.stop is None:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            self._reloader.ask(f"{paths[0]}{more}")

    def _reload(self, request: Facts) -> Facts:
        """Ask for a reload; with its `number`, tell how it is."""
        number = request.get("number")
        if number is None:
            return {"number": self.reload("command")}
        self._refuse_if_stopping()
        outcome = self._reloader.outcomes.get(number)
        if outcome is None:
            reload = self._fleet.reload
            return {"done": False, "step": reload.step if reload else "waiting"}
        return {
            "done": True,
            "reloaded": outcome.ok,
            "generation": outcome.generation,
            "step": outcome.step,
            "error": outcome.error,
        }

    def _refuse_if_stopping(self) -> None:
        if self._fleet.stop is not None:
            raise Refused("the daemon is stopping")

    # -- looking in ----------------------------------------------------------------------------

    def _probe(self, request: Facts) -> Facts:
        probes = {"live": status.live, "ready": status.ready, "startup": status.startup}
        probe = probes.get(str(request.get("probe")))
        if probe is None:
            raise Refused(f"probe: expected one of {', '.join(probes)}")
        answer = probe(self._context)
        return {"up": answer["ok"], "state": answer["state"], "reasons": answer["reasons"]}

    def _top(self) -> Facts:
        """Tell everything; what costs time (queues, memory) as it was at the last such request."""
        context, fleet = self._context, self._fleet
        if (scheduler := fleet.scheduler.child) is not None:
            context.connections.tell(scheduler.worker_id, messages.Count())
        by_age = sorted(fleet.children(), key=lambda child: child.load.pss_at_s)
        for child in by_age[:MEASURED_MAX]:
            observation.measure(child, context.clock(), syscalls.pss_bytes)
        costs = {c.worker_id: (syscalls.cpu_s(c.pid), c.load.pss_bytes) for c in fleet.children()}
        return status.with_costs(status.everything(context, os.getpid()), costs) | {
            "depths": None if context.counted_s is None else list(map(asdict, context.depths)),
        }

    def dump_stacks(self) -> None:
        """Ask each child's faulthandler for its stacks; the master logs them a moment later."""
        self._context.stacks.clear()
        for child in self._fleet.children():
            self._stacks.ask(child)

    def _report_stacks(self, request: Facts) -> Facts:
        """Ask for stacks; with `read`, return those that have come, by worker, and how many have not."""
        if not request.get("read"):
            self.dump_stacks()
        awaited = sum(child.stacks.readable_s is not None for child in self._fleet.children())
        return {"stacks": dict(self._context.stacks), "awaited": awaited}

    def reopen(self) -> None:
        """Open the log file again by its name, here and in every child."""
        if error := self._context.log.reopen():
            file = self._context.settings.log.file
            self._context.log.emit(events.LOG_REOPEN_FAILED, file=file, error=error)
        for child in self._fleet.children():
            self._context.connections.tell(child.worker_id, messages.Reopen())

"""The master: one thread, one selector; facts -> plan -> actions, until the last action.

It imports no user code and holds no storage connection, so nothing that a job does can stop it.
"""

from __future__ import annotations

import itertools
import os
import random
import selectors
import socket
import traceback
from collections.abc import Callable, Sequence

from taskqd.clock import monotonic_ns, monotonic_s
from taskqd.errors import ConfigError
from taskqd.ids import new_id
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import Settings, slots_per_worker
from taskqd.supervisor.effects.announcer import Announcer
from taskqd.supervisor.effects.commands import Commands
from taskqd.supervisor.effects.executor import Executor
from taskqd.supervisor.effects.inbox import Inbox
from taskqd.supervisor.effects.memory_monitor import MemoryMonitor
from taskqd.supervisor.effects.outages import Outages
from taskqd.supervisor.effects.reaper import Reaper
from taskqd.supervisor.effects.recoveries import Recoveries
from taskqd.supervisor.effects.reloader import ReadSettings, Reloader
from taskqd.supervisor.effects.spawner import Spawner
from taskqd.supervisor.effects.stacks import Stacks
from taskqd.supervisor.effects.stopper import Stopper
from taskqd.supervisor.endpoints.server import Endpoints
from taskqd.supervisor.host import signals, syscalls, systemd
from taskqd.supervisor.host.cgroup import OomCounter
from taskqd.supervisor.host.connections import Connections
from taskqd.supervisor.host.shared_memory import BoardMemory
from taskqd.supervisor.policy.plan import plan, wake_in_s
from taskqd.supervisor.state import observation
from taskqd.supervisor.state.fleet import Fleet, Post
from taskqd.supervisor.state.limits import limits_of

from .context import MasterContext

SPARE_ROWS = 16
"""Room on the board for more workers than were configured: scaling, replacements."""
SLEPT_S = 2.0
"""The master woke so much later than it meant to: it judges nobody in that round."""
EXCUSED_S = 2.0
ROUNDS_MAX = 1000
LAST_S = 0.5


class Master:
    """One daemon.  `run` returns its exit code."""

    def __init__(
        self,
        settings: Settings,
        *,
        log: Log,
        zygote_argv: Sequence[str],
        clock: Callable[[], float] = monotonic_s,
        reload_settings: ReadSettings | None = None,
        health_may_move: bool = False,
        watched: Sequence[str] = (),
    ) -> None:
        """`reload_settings` reads the configuration again; None: a reload keeps the present one.

        `health_may_move`: where its address is taken, a free port serves.  `watched`: files whose
        change is a reason to reload, with those of the app.
        """
        self._signals = signals.install()
        self._settings = settings
        self._log = log
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._woke_s = 0.0
        self._trusts_s = 0.0
        """Beats are judged from then on."""
        syscalls.fill_standard_fds()
        self._memory, self._context = self._build(list(zygote_argv))
        self._context.file_watcher.add(watched)
        context = self._context
        spawner = Spawner(context)
        recoveries = Recoveries(context)
        reloader = Reloader(context, spawner, reload_settings)
        stopper = Stopper(context, reloader)
        self._stacks = Stacks(context)
        self._outages = Outages(context)
        self._inbox = Inbox(context, spawner, reloader, recoveries, self._outages)
        self._reaper = Reaper(context, self._inbox, recoveries)
        self._executor = Executor(
            context, spawner, reloader, stopper, self._reaper, recoveries, self._stacks
        )
        self._announcer = Announcer(context, systemd.Notifier(os.environ))
        self._memory_monitor = MemoryMonitor(context)
        self._commands = Commands(context, stopper, reloader, self._stacks)
        self._endpoints = Endpoints(
            context, self._selector, self._commands.answer, may_move=health_may_move
        )

    def _build(self, zygote_argv: list[str]) -> tuple[BoardMemory, MasterContext]:
        settings = self._settings
        count = settings.workers.count or len(os.sched_getaffinity(0))
        rows = max(2 * count, count + SPARE_ROWS)
        memory = BoardMemory(rows + 1, slots_per_worker(settings.workers))
        context = MasterContext(
            settings=settings,
            log=self._log,
            clock=self._clock,
            chance=random.random,
            zygote_argv=zygote_argv,
            environ={k: v for k, v in os.environ.items() if k not in systemd.WANTED},
            node_id=new_id(),
            node_name=f"{settings.name or ''}@{socket.gethostname()}",
            board=memory.board,
            board_fd=memory.fd,
            fleet=Fleet(
                workers=[Post(n, "worker", active=n < count) for n in range(rows)],
                scheduler=Post(rows, "scheduler", active=True),
                grace_s=settings.shutdown.grace_s,
                connect_wait_s=settings.storage.connect_wait_s,
                kills_overdue=settings.workers.type == "process",
                burst=settings.burst,
                limits=limits_of(settings),
            ),
            connections=Connections(self._selector),
            serials=itertools.count(1),
            oom=OomCounter(),
            started_s=self._clock(),
        )
        return memory, context

    # -- life ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until stopped; returns the exit code."""
        try:
            self._begin()
            while self._executor.finished is None:
                self._turn()
        except ConfigError as error:
            self._log.emit(events.CONFIG_REJECTED, error=str(error))
            self._executor.finished = 78
        except Exception as error:
            # The children hear of our end by the kernel, drain, and give back what they hold.
            self._log.emit(events.MASTER_FAILED, error=repr(error), traceback=_traceback(error))
            self._endpoints.unlink()
            return 1
        self._end(self._executor.finished)
        return self._executor.finished

    def _begin(self) -> None:
        syscalls.become_subreaper()
        settings = self._settings
        self._selector.register(self._signals, selectors.EVENT_READ, lambda: None)
        self._log.emit(
            events.MASTER_STARTED,
            app=settings.app,
            workers=self._context.fleet.wanted(),
            worker_type=settings.workers.type,
            node=self._context.node_id,
        )
        self._endpoints.open_health()
        if settings.name or settings.admin.socket:
            self._endpoints.open_admin()
        self._context.build_worker_groups()
        self._woke_s = self._clock()

    def _turn(self) -> None:
        """Act on what is, then sleep until something changes or is due."""
        self._look()
        self._act()
        self._stacks.log_written()
        self._announcer.show()
        if self._executor.finished is not None:
            return
        due_s = (
            min(self._context.file_watcher.next_s(), self._memory_monitor.next_s()) - self._clock()
        )
        sleep_s = max(0.0, min(wake_in_s(self._context.fleet, self._clock()), due_s))
        ready = self._selector.select(sleep_s)
        self._mind_the_gap(sleep_s)
        for key, _ in ready:
            key.data()
        self._hear()
        self._endpoints.look()
        for name in self._signals.take():
            self._log.emit(events.SIGNAL_RECEIVED, signal=name)
            self._commands.signal(name)
        self._reaper.reap_all()
        self._outages.look_for_the_end()
        if changed := self._context.file_watcher.changed(self._clock()):
            self._commands.sources_changed(changed)

    def _hear(self) -> None:
        """Take in what the children have said, and tell what follows at once."""
        context = self._context
        for connection in context.connections.take_ready():
            heard = self._inbox.listen(connection)
            self._reaper.account_for_all(heard.gone)
        if context.fleet.loaded_s is not None and not context.admin_path:
            self._endpoints.open_admin()
        self._announcer.tell_ready()

    def _look(self) -> None:
        """Read the board, and what the kernel says of the children that stand out."""
        context, fleet, now_s = self._context, self._context.fleet, self._clock()
        seen = observation.look(fleet.children(), fleet.observations, context.board, monotonic_ns())
        fleet.observations = seen
        self._memory_monitor.look()
        if now_s < self._trusts_s:
            observation.excuse(seen.values())
        for child in fleet.living_workers():
            observation.weigh(child, seen[child.worker_id], now_s, syscalls.cpu_s)
            if fleet.limits.memory_bytes is not None:
                observation.measure(child, now_s, syscalls.pss_bytes)

    def _mind_the_gap(self, meant_s: float) -> None:
        """After a sleep that the master did not mean (SIGSTOP, a paused machine) judge nobody.

        Its children have slept as well, and get the time to show a beat.
        """
        now_s = self._clock()
        slept_s, self._woke_s = now_s - self._woke_s, now_s
        if slept_s > meant_s + SLEPT_S:
            self._trusts_s = now_s + EXCUSED_S
            self._log.emit(events.MASTER_SLEPT, slept_s=round(slept_s, 3))

    def _act(self) -> None:
        fleet = self._context.fleet
        for _ in range(ROUNDS_MAX):
            todo = plan(fleet, self._clock())
            if not todo or self._executor.finished is not None:
                return
            for action in todo:
                self._executor.do(action)
            # A channel that broke while something was sent.
            self._hear()
        raise RuntimeError(f"the plan does not come to rest: {plan(fleet, self._clock())}")

    # -- the end -------------------------------------------------------------------------------

    def _end(self, exit_code: int) -> None:
        """Leave nothing behind, whatever has happened: no process, no socket file, no descriptor."""
        context = self._context
        for key in context.connections.all_keys():
            context.connections.signal(key, "SIGKILL")
        self._reap_the_rest()
        self._endpoints.close()
        stop = context.fleet.stop
        self._log.emit(
            events.MASTER_STOPPED,
            exit_code=exit_code,
            took_s=round(self._clock() - stop.timeline.begin_s, 3) if stop else None,
            interrupted=context.totals.interrupted,
            handed_back=context.totals.handed_back,
            owed=len(context.fleet.pending_recoveries),
        )
        for key in context.connections.all_keys():
            context.connections.drop(key)
        if context.worker_groups is not None:
            context.worker_groups.close()
        self._announcer.close()
        self._selector.close()
        self._memory.close()

    def _reap_the_rest(self) -> None:
        """Collect what was just killed; a process that the kernel cannot end is left to it."""
        until_s = self._clock() + LAST_S
        while self._known() and self._clock() < until_s:
            self._reaper.reap_all()
            if self._known():
                self._selector.select(0.02)
                self._signals.take()

    def _known(self) -> bool:
        fleet = self._context.fleet
        return bool(fleet.zygotes) or any(child.pid for child in fleet.children())


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error))

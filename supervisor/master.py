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
from taskqd.supervisor.effects.announcer import Display
from taskqd.supervisor.effects.commands import Commands
from taskqd.supervisor.effects.executor import Hands
from taskqd.supervisor.effects.inbox import Ears
from taskqd.supervisor.effects.memory_monitor import MemoryWatch
from taskqd.supervisor.effects.reaper import Coroner
from taskqd.supervisor.effects.reloader import ReadSettings, Reloader
from taskqd.supervisor.effects.spawner import Births
from taskqd.supervisor.endpoints.server import Doors
from taskqd.supervisor.host.oom import OomCounter
from taskqd.supervisor.host.shared_memory import BoardMemory
from taskqd.supervisor.policy.plan import plan, wake_in_s
from taskqd.supervisor.state.fleet import Fleet, Post
from taskqd.supervisor.state.limits import limits_of

from .context import House, Line, Lines
from .host import signals
from .host import syscalls as process
from .host import systemd as notify
from .state import observation as watch

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
        process.fill_standard_fds()
        self._memory, self._house = self._build(list(zygote_argv))
        self._house.sources.add(watched)
        births = Births(self._house)
        reloader = Reloader(self._house, births, reload_settings)
        self._hands = Hands(self._house, births, reloader)
        self._coroner = Coroner(self._house, self._hands)
        self._ears = Ears(self._house, births, self._hands, self._coroner, reloader)
        self._display = Display(self._house, notify.Notifier(os.environ))
        self._ears.on_ready = self._display.worker_ready
        self._display.on_silent = self._hands.insist_on_stacks
        self._coroner.hear_out = self._ears.hear_out
        self._coroner.on_buried = self._ears.look_for_the_end_of_an_outage
        self._hands.on_stop = self._display.stop_begun
        reloader.on_begin = self._display.reload_begun
        reloader.on_end = self._display.reload_ended
        self._memory_watch = MemoryWatch(self._house)
        self._commands = Commands(self._house, self._hands, reloader)
        self._doors = Doors(
            self._house, self._selector, self._commands.answer, may_move=health_may_move
        )
        self._ears.on_loaded = self._doors.open_admin

    def _build(self, zygote_argv: list[str]) -> tuple[BoardMemory, House]:
        settings = self._settings
        count = settings.workers.count or len(os.sched_getaffinity(0))
        rows = max(2 * count, count + SPARE_ROWS)
        memory = BoardMemory(rows + 1, slots_per_worker(settings.workers))
        house = House(
            settings=settings,
            log=self._log,
            clock=self._clock,
            chance=random.random,
            zygote_argv=zygote_argv,
            environ={k: v for k, v in os.environ.items() if k not in notify.WANTED},
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
            lines=Lines(self._selector, self._listen),
            serials=itertools.count(1),
            oom=OomCounter(),
            started_s=self._clock(),
        )
        return memory, house

    # -- life ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until stopped; returns the exit code."""
        try:
            self._begin()
            while self._hands.finished is None:
                self._turn()
        except ConfigError as error:
            self._log.emit(events.CONFIG_REJECTED, error=str(error))
            self._hands.finished = 78
        except Exception as error:
            # The children hear of our end by the kernel, drain, and give back what they hold.
            self._log.emit(events.MASTER_FAILED, error=repr(error), traceback=_traceback(error))
            self._doors.unlink()
            return 1
        self._end(self._hands.finished)
        return self._hands.finished

    def _begin(self) -> None:
        process.become_subreaper()
        settings = self._settings
        self._selector.register(self._signals, selectors.EVENT_READ, lambda: None)
        self._log.emit(
            events.MASTER_STARTED,
            app=settings.app,
            workers=self._house.fleet.wanted(),
            worker_type=settings.workers.type,
            node=self._house.node_id,
        )
        self._doors.open_health()
        if settings.name or settings.admin.socket:
            self._doors.open_admin()
        self._house.build_cells()
        self._woke_s = self._clock()

    def _listen(self, line: Line) -> None:
        self._ears.listen(line)

    def _turn(self) -> None:
        """Act on what is, then sleep until something changes or is due."""
        self._look()
        self._act()
        self._display.show()
        if self._hands.finished is not None:
            return
        due_s = min(self._house.sources.next_s(), self._memory_watch.next_s()) - self._clock()
        sleep_s = max(0.0, min(wake_in_s(self._house.fleet, self._clock()), due_s))
        ready = self._selector.select(sleep_s)
        self._mind_the_gap(sleep_s)
        for key, _ in ready:
            key.data()
        self._doors.look()
        for name in self._signals.take():
            self._log.emit(events.SIGNAL_RECEIVED, signal=name)
            self._commands.signal(name)
        self._coroner.reap_all()
        if changed := self._house.sources.changed(self._clock()):
            self._commands.sources_changed(changed)

    def _look(self) -> None:
        house = self._house
        house.fleet.seen = watch.look(house.fleet, house.board, monotonic_ns())
        self._memory_watch.look()
        if self._clock() < self._trusts_s:
            watch.excuse(house.fleet)
        for child in house.fleet.crew():
            watch.weigh(child, house.fleet.seen[child.worker_id], self._clock(), process.cpu_s)
            if house.fleet.limits.memory_bytes is not None:
                watch.measure(child, self._clock(), process.pss_bytes)

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
        fleet = self._house.fleet
        for _ in range(ROUNDS_MAX):
            todo = plan(fleet, self._clock())
            if not todo or self._hands.finished is not None:
                return
            for action in todo:
                self._hands.do(action)
        raise RuntimeError(f"the plan does not come to rest: {plan(fleet, self._clock())}")

    # -- the end -------------------------------------------------------------------------------

    def _end(self, exit_code: int) -> None:
        """Leave nothing behind, whatever has happened: no process, no socket file, no descriptor."""
        house = self._house
        for key in house.lines.names():
            house.lines.signal(key, "SIGKILL")
        self._reap_the_rest()
        self._doors.close()
        stop = house.fleet.stop
        self._log.emit(
            events.MASTER_STOPPED,
            exit_code=exit_code,
            took_s=round(self._clock() - stop.line.begin_s, 3) if stop else None,
            interrupted=house.tally.interrupted,
            handed_back=house.tally.handed_back,
            owed=len(house.fleet.debts),
        )
        for key in house.lines.names():
            house.lines.drop(key)
        if house.cells is not None:
            house.cells.close()
        self._display.close()
        self._selector.close()
        self._memory.close()

    def _reap_the_rest(self) -> None:
        """Collect what was just killed; a process that the kernel cannot end is left to it."""
        until_s = self._clock() + LAST_S
        while self._known() and self._clock() < until_s:
            self._coroner.reap_all()
            if self._known():
                self._selector.select(0.02)
                self._signals.take()

    def _known(self) -> bool:
        fleet = self._house.fleet
        return bool(fleet.zygotes) or any(child.pid for child in fleet.children())


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error))

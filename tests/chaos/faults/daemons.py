"""The daemon as a whole: commands to it, its end, and the next one."""

from __future__ import annotations

import signal
import subprocess
import time

from tests.chaos.faults.kills import Freeze
from tests.chaos.faults.operation import DEAD_S, VERDICT_S, Operation, send
from tests.chaos.ledger import Fault
from tests.chaos.world import GRACE_S, WAIT_S, Broke, World, alive, all_dead, state, wait_for

LATE_S = 4.0


class Command(Operation):
    """Signals that an operator sends; the daemon has to live on."""

    signals: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()

    def inject(self) -> bool:
        if not self.world.began():
            return False
        self._master = self.world.master
        for name in self.signals:
            send(self._master, name)
        return True

    def verify(self) -> None:
        self.fault.took_hold = f"{len(self.signals)} signals sent"

    def heal(self) -> None:
        for name in self.undo:
            send(self._master, name)


class Quiet(Command):
    name = "quiet"
    signals, undo = ("SIGTSTP",), ("SIGCONT",)


class Replacing(Command):
    """Base of commands by which workers drain and end."""

    def inject(self) -> bool:
        self.fault.drains = True
        self.fault.killed = self.world.role("worker")
        self._until_s = time.monotonic() + GRACE_S + VERDICT_S
        return super().inject()

    def over(self) -> bool:
        return time.monotonic() > self._until_s

    def close(self) -> Fault:
        """Another such command on top of the first ends workers that this one has made."""
        crashed = {event["child_pid"] for event in self.world.events("worker.crashed")}
        born = {event["child_pid"] for event in self.world.events("worker.spawned")} - crashed
        self.fault.killed = [pid for pid in {*self.fault.killed, *born} if pid and not alive(pid)]
        return super().close()


class Scale(Replacing):
    """One worker more and two fewer, and back again."""

    name = "scale"
    signals = ("SIGTTIN", "SIGTTOU", "SIGTTOU")
    undo = ("SIGTTIN",)


class Reload(Replacing):
    """A new generation takes over, worker by worker."""

    name = "reload"
    signals = ("SIGHUP",)


class Storm(Command):
    """Hundreds of signals at once, of those that change nothing in the end."""

    name = "storm"
    signals = ("SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT", "SIGCHLD", "SIGWINCH") * 40

    # The system may run the handler of the later of two signals first: the last TSTP may win.
    undo = ("SIGCONT",)


class Down(Operation):
    """Base of faults that end the whole daemon; another one is started at once by `heal`."""

    def __init__(self, world: World, chance: float) -> None:
        super().__init__(world, chance)
        self._crew: list[int] = []

    def _condemn(self) -> None:
        """Note who belongs to this daemon, newborns included."""
        living = {*self.world.pids()} - self.world.former
        self._crew = self.fault.killed = sorted({*self._crew, *living})

    def heal(self) -> None:
        self.fault.healed = time.monotonic_ns()
        self.world.start_daemon()

    def _reap(self) -> int:
        daemon = self.world.daemon
        if daemon is None:
            raise Broke("there is no daemon")
        try:
            return daemon.exit_code(WAIT_S)
        except subprocess.TimeoutExpired:
            raise Broke(f"{self.name}: the daemon still runs after {WAIT_S:g} s") from None


class KillMaster(Down):
    """Its children drain by themselves; meanwhile the next daemon runs."""

    name = "kill master"

    def inject(self) -> bool:
        self.fault.drains = True
        self._condemn()
        send(self.world.master, "SIGKILL")
        return True

    def verify(self) -> None:
        self._reap()
        self._condemn()
        self.world.former.update(self._crew)
        self.fault.took_hold = "master reaped"
        self._until_s = time.monotonic() + 2 * GRACE_S + WAIT_S

    def over(self) -> bool:
        if all_dead(self._crew):
            return True
        if time.monotonic() > self._until_s:
            raise Broke(f"children outlive their master: {[p for p in self._crew if alive(p)]}")
        return False


class KillTree(Down):
    """All processes of the daemon at once, as when the machine dies."""

    name = "kill tree"

    def inject(self) -> bool:
        self.fault.scheduler = True
        # Between the master's death and their own, children are told to drain.
        self.fault.drains = True
        # The master first, so that it takes nothing back.
        send(self.world.master, "SIGSTOP")
        self._condemn()
        for pid in self._crew:
            send(pid, "SIGKILL")
        return True

    def verify(self) -> None:
        self._reap()
        self._condemn()
        for pid in self._crew:
            send(pid, "SIGKILL")
        wait_for(lambda: all_dead(self._crew), "the whole tree dies", DEAD_S)
        self.fault.end = time.monotonic_ns()
        self.fault.took_hold = f"{len(self._crew)} processes are gone"


class LoseNode(KillTree):
    """The machine dies and stays away for longer than its lease: others recover its jobs."""

    name = "lose node"


class FreezeNode(Freeze):
    """The machine sleeps, and wakes up when others have taken its jobs: it must be fenced."""

    name = "freeze node"

    def inject(self) -> bool:
        if not self.world.began():
            return False
        self.fault.scheduler = True
        send(self.world.master, "SIGSTOP")
        self.fault.frozen = [pid for pid in self.world.pids() if pid not in self.world.former]
        for pid in self.fault.frozen:
            send(pid, "SIGSTOP")
        return True

    def verify(self) -> None:
        asleep = ("T", "Z", "")
        wait_for(lambda: all(state(pid) in asleep for pid in self.fault.frozen), "all stop", DEAD_S)
        self.fault.took_hold = f"{len(self.fault.frozen)} processes are T"


class Stop(Down):
    """SIGTERM: it has to drain, to exit with 0 in time, and to leave nobody behind."""

    name = "stop"
    signals = ("SIGTERM",)

    def inject(self) -> bool:
        self.fault.drains = True
        self._condemn()
        for name in self.signals:
            send(self.world.master, name)
            time.sleep(0.2)
        return True

    def verify(self) -> None:
        self._condemn()
        code = self._reap()
        if code == -signal.SIGTERM and not self.world.began():
            self.fault.took_hold = "it had not begun"
            return
        if code != 0:
            raise Broke(f"{self.name}: the daemon exited with {code}")
        # By its own clock: a loaded machine starts and reaps processes late.
        took_s: float = self.world.events("master.stopped")[-1]["took_s"]
        if took_s > GRACE_S + LATE_S:
            raise Broke(f"{self.name}: the daemon took {took_s:.1f} s of {GRACE_S:g}")
        self._condemn()
        if left := [pid for pid in self._crew if alive(pid)]:
            raise Broke(f"{self.name}: left {left} behind")
        self.fault.took_hold = f"exit 0 after {took_s:.2f} s"
        self.fault.end = time.monotonic_ns()


class StopNow(Stop):
    name = "stop now"
    signals = ("SIGTERM", "SIGTERM")


class StopHard(Stop):
    name = "stop hard"
    signals = ("SIGTERM", "SIGTERM", "SIGTERM")

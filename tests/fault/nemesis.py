"""The nemesis: faults that can be injected, seen to have taken hold, and healed.

An operation is used once: `inject`, then `verify` (which raises Broke where nothing happened: a
nemesis that does nothing is the commonest false green), then, after a while, `heal`.  What it did
is in `fault`, which the checker reads.  `chance` (0..1) picks the victim among those there are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.fault.ledger import Fault
from tests.fault.world import GRACE_S, WAIT_S, Broke, World, alive, all_dead, state, wait_for

DEAD_S = 10.0
VERDICT_S = 2.0
EVERYTHING_S = 1e6


class Operation:
    """Base of all faults."""

    name = ""

    def __init__(self, world: World, chance: float) -> None:
        self.world = world
        self.chance = chance
        self.fault = Fault(kind=self.name, begin=time.monotonic_ns(), end=0)

    def inject(self) -> bool:
        """Do it; False: there is nobody to do it to."""
        raise NotImplementedError

    def verify(self) -> None:
        """Wait until it has taken hold, and say in `fault.took_hold` how that was seen."""

    def heal(self) -> None:
        """Undo it."""

    def over(self) -> bool:
        """Return whether its consequences have ended, so that it can be written down."""
        return True

    def begin(self) -> bool:
        self.fault.begin = time.monotonic_ns()
        return self.inject()

    def close(self) -> Fault:
        if not self.fault.end:
            self.fault.end = time.monotonic_ns()
        return self.fault

    def _pick(self, pids: list[int]) -> int | None:
        return pids[int(self.chance * len(pids))] if pids else None


def send(pid: int, name: str) -> None:
    try:
        os.kill(pid, signal.Signals[name])
    except ProcessLookupError:
        return


class Kill(Operation):
    """SIGKILL of one child of the master."""

    role = ""

    def inject(self) -> bool:
        victim = self._pick(self.world.role(self.role))
        if victim is None:
            return False
        self.fault.killed = [victim]
        send(victim, "SIGKILL")
        return True

    def verify(self) -> None:
        (pid,) = self.fault.killed
        wait_for(lambda: not alive(pid), f"{self.role} {pid} dies by SIGKILL", DEAD_S)
        self.fault.end = time.monotonic_ns()
        self.fault.took_hold = f"{pid} is {state(pid) or 'gone'}"


class KillWorker(Kill):
    """One that runs a job, if there is any."""

    name, role = "kill worker", "worker"

    def _pick(self, pids: list[int]) -> int | None:
        busy = self.world.busy()
        return super()._pick([pid for pid in pids if pid in busy] or pids)


class KillZygote(Kill):
    name, role = "kill zygote", "zygote"


class KillScheduler(Kill):
    name, role = "kill scheduler", "scheduler"

    def inject(self) -> bool:
        self.fault.scheduler = True
        return super().inject()


class Freeze(Operation):
    """SIGSTOP for a while; the master may lose its patience and kill the victim."""

    role = ""

    def victims(self) -> list[int]:
        return self.world.role(self.role)

    def inject(self) -> bool:
        victim = self._pick(self.victims())
        if victim is None:
            return False
        self.fault.frozen = [victim]
        send(victim, "SIGSTOP")
        return True

    def verify(self) -> None:
        (pid,) = self.fault.frozen
        wait_for(lambda: state(pid) in "TZ", f"{self.role} {pid} stops", DEAD_S)
        self.fault.took_hold = f"{pid} is {state(pid) or 'gone'}"

    def heal(self) -> None:
        (pid,) = self.fault.frozen
        send(pid, "SIGCONT")
        self._thawed_s = time.monotonic()

    def over(self) -> bool:
        # What the master has decided about a frozen child it may carry out after the thaw.
        return time.monotonic() > self._thawed_s + VERDICT_S

    def close(self) -> Fault:
        self.fault.killed = [pid for pid in self.fault.frozen if not alive(pid)]
        return super().close()


class FreezeWorker(Freeze):
    name, role = "freeze worker", "worker"


class FreezeZygote(Freeze):
    name, role = "freeze zygote", "zygote"


class FreezeScheduler(Freeze):
    name, role = "freeze scheduler", "scheduler"

    def inject(self) -> bool:
        self.fault.scheduler = True
        return super().inject()


class FreezeMaster(Freeze):
    name, role = "freeze master", "master"

    def victims(self) -> list[int]:
        return [self.world.master]


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


class Scale(Command):
    """One worker more and two fewer, and back again."""

    name = "scale"
    signals = ("SIGTTIN", "SIGTTOU", "SIGTTOU")
    undo = ("SIGTTIN",)

    def inject(self) -> bool:
        self.fault.drains = True
        self.fault.killed = self.world.role("worker")
        self._until_s = time.monotonic() + GRACE_S + VERDICT_S
        return super().inject()

    def over(self) -> bool:
        return time.monotonic() > self._until_s

    def close(self) -> Fault:
        self.fault.killed = [pid for pid in self.fault.killed if not alive(pid)]
        return super().close()


class Storm(Command):
    """Hundreds of signals at once, of those that change nothing in the end."""

    name = "storm"
    signals = ("SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGCONT", "SIGCHLD", "SIGWINCH") * 40


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
        began = time.monotonic()
        code = self._reap()
        took_s = time.monotonic() - began
        if code == -signal.SIGTERM and not self.world.began():
            self.fault.took_hold = "it had not begun"
            return
        if code != 0:
            raise Broke(f"{self.name}: the daemon exited with {code}")
        if took_s > GRACE_S + 2.0:
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


class KillStorage(Operation):
    """kill -9 of the server; it comes back on the same data."""

    name = "kill storage"

    def inject(self) -> bool:
        server = self.world.server
        if server is None or server.process is None:
            return False
        self.fault.storage = True
        self.fault.forgets_s = 0.0 if self.world.fsync == "always" else 2.5
        self._pid = server.process.pid
        server.kill()
        return True

    def verify(self) -> None:
        if alive(self._pid):
            raise Broke(f"server {self._pid} lives")
        self.fault.took_hold = f"server {self._pid} is gone"

    def heal(self) -> None:
        assert self.world.server is not None
        self.world.server.start(WAIT_S)
        self.fault.healed = time.monotonic_ns()


class EmptyStorage(KillStorage):
    """The server comes back with nothing: only where the run allows losses."""

    name = "empty storage"

    def inject(self) -> bool:
        found = super().inject()
        self.fault.forgets_s = EVERYTHING_S
        return found

    def heal(self) -> None:
        server = self.world.server
        assert server is not None
        for path in sorted(server.dir.rglob("*"), reverse=True):
            if path.is_file():
                path.unlink()
        super().heal()


class FreezeStorage(Operation):
    """The server does not answer; connections stay open."""

    name = "freeze storage"

    def inject(self) -> bool:
        server = self.world.server
        if server is None or server.process is None:
            return False
        self.fault.storage = True
        server.signal(signal.SIGSTOP)
        self._pid = server.process.pid
        return True

    def verify(self) -> None:
        wait_for(lambda: state(self._pid) == "T", "the server stops", DEAD_S)
        self.fault.took_hold = f"server {self._pid} is T"

    def heal(self) -> None:
        assert self.world.server is not None
        self.world.server.signal(signal.SIGCONT)
        self.world.server.wait_ready(WAIT_S)


_LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
db.execute("ROLLBACK")
"""


class LockStorage(Operation):
    """Another process keeps the write lock of the SQLite file."""

    name = "lock storage"

    def inject(self) -> bool:
        if self.world.server is not None:
            return False
        self.fault.storage = True
        # A process of its own: closing a file drops all locks that a process has on it.
        argv = [sys.executable, "-c", _LOCKER, self.world.url.removeprefix("sqlite:///")]
        pipe = subprocess.PIPE
        self._locker = subprocess.Popen(argv, stdin=pipe, stdout=pipe)
        return True

    def verify(self) -> None:
        assert self._locker.stdout is not None
        if self._locker.stdout.readline() != b"locked\n":
            raise Broke("the SQLite file could not be locked")
        self.fault.took_hold = "BEGIN IMMEDIATE succeeded elsewhere"

    def heal(self) -> None:
        self._locker.communicate(timeout=WAIT_S)


class KillClient(Operation):
    name = "kill client"

    def inject(self) -> bool:
        clients = self.world.clients
        if not clients:
            return False
        victim = clients.pop(int(self.chance * len(clients)))
        victim.kill()
        self._code = victim.wait()
        return True

    def verify(self) -> None:
        self.fault.took_hold = f"client ended with {self._code}"

    def heal(self) -> None:
        self.world.start_client()


Make = Callable[[World, float], Operation]
OPERATIONS: dict[str, Make] = {
    operation.name: operation
    for operation in (
        KillWorker, KillZygote, KillScheduler, FreezeWorker, FreezeZygote, FreezeScheduler,
        FreezeMaster, KillMaster, KillTree, Stop, StopNow, StopHard, KillStorage, EmptyStorage,
        FreezeStorage, LockStorage, KillClient, Quiet, Scale, Storm,
    )
}  # fmt: skip

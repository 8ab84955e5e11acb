"""Processes of the daemon that are killed or frozen."""

from __future__ import annotations

import time

from tests.chaos.faults.operation import DEAD_S, VERDICT_S, Operation, send
from tests.chaos.ledger import Fault
from tests.chaos.world import alive, state, wait_for


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
        for pid in self.fault.frozen:
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

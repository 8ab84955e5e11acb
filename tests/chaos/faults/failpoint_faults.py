"""Faults at named steps between calls to the storage; see failpoints.py for what a step is."""

from __future__ import annotations

import time

from tests.chaos.faults.operation import DEAD_S, Operation, send
from tests.chaos.ledger import Fault
from tests.chaos.world import Broke, World, alive, state, wait_for

REACHED_S = 20.0
AGAIN_S = 4.0
TRAFFIC_S = 2.0
"""Jobs alone lead to most steps within so long."""
FROZEN_S = 1.5


def both(who: str, calls: str) -> tuple[str, ...]:
    return tuple(f"{who}.{call}.{side}" for call in calls.split() for side in ("before", "after"))


TRAFFIC = (
    *both("desk", "lease exchange settle requeue hear arm answer disarm"),
    *both("worker", "lock unlock server_ms"),
    *both("keeper", "heartbeat"),
    *both("chores", "recover next_expiry_s promote answer fire server_ms"),
)
"""Steps to which a daemon comes again and again while it runs the workload."""
PROVOKED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("kill worker", both("chores", "recover_worker")),
    ("kill tree", both("chores", "recover_node")),
    ("cut", both("desk", "holdings")),
    ("crowd", both("desk", "release")),
    (
        "stop",
        both("scheduler", "retire ping")
        + both("keeper", "register epoch")
        + both("chores", "nodes purge last_tick schedules parked arm")
        + both("worker", "ping")
        + both("desk", "settle"),
    ),
    ("stop now", both("desk", "requeue")),
    ("reload", both("scheduler", "ping") + both("worker", "ping") + both("desk", "arm")),
)
"""What leads to the other steps, and to some in the middle of something else."""
JOBS = {
    "hear": "long", "lock": "locked", "unlock": "locked", "requeue": "flaky", "promote": "delayed",
    "answer": "delayed",
}  # fmt: skip
"""Call -> the kind of job that leads to it; others are led to by any."""
WALK = [("", step) for step in TRAFFIC] + [(how, step) for how, all_ in PROVOKED for step in all_]

BURST = both("desk", "queues nodes")
"""Looks of a daemon that ends by itself; they change nothing."""


class AtStep(Operation):
    """Base: the next process that comes to a step does something to itself."""

    action = ""

    def __init__(self, world: World, chance: float, step: str = "") -> None:
        super().__init__(world, chance)
        self.step = step or TRAFFIC[int(chance * len(TRAFFIC))]
        self.must = bool(step)
        """Not coming to the step within the time is an error."""
        self.fault.kind = f"{self.name} {self.step}" if step else self.name
        self._pid = 0

    def inject(self) -> bool:
        folder = self.world.failpoints
        draft = folder / "draft"
        draft.write_text(self.action)
        draft.rename(folder / self.step)
        self.fault.scheduler = self.step.split(".")[0] in ("keeper", "chores", "scheduler")
        return True

    def reached(self) -> bool:
        """Return whether a process has come to the step, and note which."""
        for path in self.world.failpoints.glob(f"{self.step}@*"):
            self._pid = int(path.name.rpartition("@")[2])
            path.unlink()
        return bool(self._pid)

    def verify(self) -> None:
        if self.come(REACHED_S if self.must else TRAFFIC_S):
            self._took_hold()
        else:
            self._disarm()

    def come(self, timeout_s: float) -> bool:
        """Return whether a process comes to the step within that time."""
        until_s = time.monotonic() + timeout_s
        while not self.reached():
            if time.monotonic() > until_s:
                return False
            time.sleep(0.002)
        return True

    def _disarm(self) -> None:
        (self.world.failpoints / self.step).unlink(missing_ok=True)
        if self.reached():
            self._took_hold()
        elif self.must:
            raise Broke(f"no process came to {self.step} within {REACHED_S:g} s")
        else:
            self.fault.took_hold = f"nobody came to {self.step}"
            self.fault.end = time.monotonic_ns()

    def _took_hold(self) -> None:
        self.fault.took_hold = f"{self._pid} at {self.step}"


class KillAtStep(AtStep):
    name, action = "kill at", "kill"

    def _took_hold(self) -> None:
        super()._took_hold()
        self.fault.killed = [self._pid]
        wait_for(lambda: not alive(self._pid), f"{self._pid} dies at {self.step}", DEAD_S)
        self.fault.end = time.monotonic_ns()


class ErrorAtStep(AtStep):
    """The storage fails there, once: before, it has done nothing; after, the reply is lost."""

    name, action = "error at", "error"

    def inject(self) -> bool:
        self.fault.storage = True
        return super().inject()


class StopAtStep(AtStep):
    name, action = "stop at", "stop"

    def _took_hold(self) -> None:
        super()._took_hold()
        self.fault.frozen = [self._pid]
        wait_for(lambda: state(self._pid) in ("T", "Z", ""), f"{self._pid} stops", DEAD_S)
        time.sleep(FROZEN_S * self.chance)

    def heal(self) -> None:
        for pid in self.fault.frozen:
            send(pid, "SIGCONT")
        self._thawed_s = time.monotonic()

    def over(self) -> bool:
        return not self.fault.frozen or time.monotonic() > self._thawed_s + 2.0

    def close(self) -> Fault:
        self.fault.killed = [pid for pid in self.fault.frozen if not alive(pid)]
        return super().close()


ACTIONS = {operation.action: operation for operation in (KillAtStep, ErrorAtStep, StopAtStep)}

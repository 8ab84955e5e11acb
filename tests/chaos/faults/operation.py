"""What all faults have in common.

An operation is used once: `begin`, then `verify` (which raises Broke where nothing happened: a
nemesis that does nothing is the commonest false green), then, after a while, `heal`.  What it did
is in `fault`, which the checker reads.  `chance` (0..1) picks the victim among those there are.
"""

from __future__ import annotations

import os
import signal
import time

from tests.chaos.ledger import Fault
from tests.chaos.world import World

DEAD_S = 60.0
"""Within so long the kernel has done what a signal asks."""
VERDICT_S = 2.0


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

"""What happens between the daemon and its server, and to the descriptors of its processes."""

from __future__ import annotations

import contextlib
import os
import resource
import time

from tests.chaos.faults.operation import DEAD_S, VERDICT_S, Operation
from tests.chaos.ledger import Fault
from tests.chaos.world import alive, wait_for

HALVES = 5


class StallConnections(Operation):
    """No byte passes, in either direction; nothing is closed."""

    name = "stall connections"

    def inject(self) -> bool:
        if self.world.proxy is None:
            return False
        self.fault.storage = True
        self.world.proxy.stalled.set()
        return True

    def verify(self) -> None:
        self.fault.took_hold = "the proxy passes nothing"

    def heal(self) -> None:
        assert self.world.proxy is not None
        self.world.proxy.stalled.clear()


class HalveReplies(Operation):
    """The first half of a reply arrives, and then the end of the connection."""

    name = "halve replies"

    def inject(self) -> bool:
        if self.world.proxy is None:
            return False
        self.fault.storage = True
        self._before = self.world.proxy.halved
        self.world.proxy.halves = HALVES
        return True

    def verify(self) -> None:
        proxy = self.world.proxy
        assert proxy is not None
        # Replies of one byte cannot be halved, and an idle daemon asks for few.
        with contextlib.suppress(Exception):
            wait_for(lambda: proxy.halved > self._before, "a reply is halved", DEAD_S)
        self.fault.took_hold = f"{proxy.halved - self._before} replies halved"

    def heal(self) -> None:
        assert self.world.proxy is not None
        self.world.proxy.halves = 0


class StarveDescriptors(Operation):
    """A process may open no more files for a while: no connection, no child, no log."""

    name = "starve descriptors"

    def inject(self) -> bool:
        if not self.world.began():
            return False
        roles = ("worker", "scheduler", "zygote")
        pids = [pid for role in roles for pid in self.world.role(role)]
        victim = self._pick([self.world.master, *pids])
        if victim is None:
            return False
        self.fault.storage = self.fault.scheduler = self.fault.drains = True
        self.fault.frozen = [victim]
        try:
            self._before = resource.prlimit(victim, resource.RLIMIT_NOFILE)
            opened = max(map(int, os.listdir(f"/proc/{victim}/fd"))) + 1
            resource.prlimit(victim, resource.RLIMIT_NOFILE, (opened, self._before[1]))
        except OSError:
            return False
        return True

    def verify(self) -> None:
        (pid,) = self.fault.frozen
        self.fault.took_hold = f"{pid} may open nothing more"

    def heal(self) -> None:
        with contextlib.suppress(OSError):
            resource.prlimit(self.fault.frozen[0], resource.RLIMIT_NOFILE, self._before)
        self._healed_s = time.monotonic()

    def over(self) -> bool:
        return time.monotonic() > self._healed_s + VERDICT_S

    def close(self) -> Fault:
        self.fault.killed = [pid for pid in self.fault.frozen if not alive(pid)]
        return super().close()

"""The nemesis: every fault that a plan can name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fault import daemons, deaths, outages, refusals, steps, wires
from tests.fault.operation import Operation
from tests.fault.world import World


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
        deaths.KillWorker, deaths.KillZygote, deaths.KillScheduler, deaths.FreezeWorker,
        deaths.FreezeZygote, deaths.FreezeScheduler, deaths.FreezeMaster, daemons.KillMaster,
        daemons.KillTree, daemons.LoseNode, daemons.FreezeNode, daemons.Stop, daemons.StopNow, daemons.StopHard, daemons.Quiet,
        daemons.Scale, daemons.Reload, daemons.Storm, steps.KillAtStep,
        steps.ErrorAtStep, steps.StopAtStep, outages.KillStorage, outages.EmptyStorage,
        outages.FreezeStorage, outages.LockStorage, outages.CutConnections, outages.FillStorage,
        outages.ReadOnlyStorage, outages.BusyStorage, outages.ForgetScripts, KillClient,
        refusals.UnsavedStorage, refusals.LockedOut, refusals.LoadingStorage,
        wires.StallConnections, wires.HalveReplies, wires.StarveDescriptors,
    )
}  # fmt: skip

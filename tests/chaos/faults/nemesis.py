"""The nemesis: every fault that a plan can name."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.faults import connections, daemons, failpoint_faults, kills, outages, refusals
from tests.chaos.faults.operation import Operation
from tests.chaos.world import World


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
        kills.KillWorker, kills.KillZygote, kills.KillScheduler, kills.FreezeWorker,
        kills.FreezeZygote, kills.FreezeScheduler, kills.FreezeMaster, daemons.KillMaster,
        daemons.KillTree, daemons.LoseNode, daemons.FreezeNode, daemons.Stop, daemons.StopNow, daemons.StopHard, daemons.Quiet,
        daemons.Scale, daemons.Reload, daemons.Storm, failpoint_faults.KillAtStep,
        failpoint_faults.ErrorAtStep, failpoint_faults.StopAtStep, outages.KillStorage, outages.EmptyStorage,
        outages.FreezeStorage, outages.LockStorage, outages.CutConnections, outages.FillStorage,
        outages.ReadOnlyStorage, outages.BusyStorage, outages.ForgetScripts, KillClient,
        refusals.UnsavedStorage, refusals.LockedOut, refusals.LoadingStorage,
        connections.StallConnections, connections.HalveReplies, connections.StarveDescriptors,
    )
}  # fmt: skip

"""A process that leases and acknowledges jobs until there are none.

`python -m tests.support.apps.drainer URL NAMESPACE WORKER` prints the ids that it ran, as JSON.
"""

from __future__ import annotations

import json
import sys

from taskqd.jobs.job import Lease
from taskqd.storage import open_storage
from tests.support.rigs.rig import ack


def drain(url: str, namespace: str, worker: str) -> list[str]:
    storage = open_storage(url, namespace, durability="memory")
    held: list[Lease] = []
    ran: list[str] = []
    while True:
        turn = storage.turn(worker, [ack(lease) for lease in held], ["q"], 16, share=4)
        assert all(turn.settled)
        held = turn.leases
        if not held:
            storage.close()
            return ran
        ran += [lease.id for lease in held]


if __name__ == "__main__":
    print(json.dumps(drain(*sys.argv[1:])))

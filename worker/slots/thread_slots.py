"""The thread kind: each slot is a thread."""

from __future__ import annotations

import threading
from functools import partial

from taskqd.worker.host import syscalls

from .multi_slots import MultiSlots


class ThreadSlots(MultiSlots):
    """`capacity` jobs at once, each in a thread of its own; the main thread waits for them.

    Coroutines can be cancelled; plain code in a thread looks at `stopping` itself.
    """

    def run(self) -> None:
        threads = [
            threading.Thread(
                target=syscalls.vital,
                args=(partial(self.serve, slot, self._runner),),
                name=f"slot-{number}",
                # A job that does not end must not keep the process from ending.
                daemon=True,
            )
            for number, slot in enumerate(self._slots)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

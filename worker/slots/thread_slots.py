"""The thread kind: each slot is a thread."""

from __future__ import annotations

import threading
from functools import partial

from taskqd.worker.host import syscalls as process

from .multi_slots import ManySlots


class ThreadSlots(ManySlots):
    """`capacity` jobs at once, each in a thread of its own; the main thread waits for them.

    Coroutines can be cancelled; plain code in a thread looks at `stopping` itself.
    """

    def run(self) -> None:
        threads = [
            threading.Thread(
                target=process.vital,
                args=(partial(self.serve, place, self._runner),),
                name=f"slot-{number}",
                # A job that does not end must not keep the process from ending.
                daemon=True,
            )
            for number, place in enumerate(self._places)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

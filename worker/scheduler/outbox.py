"""What the scheduler's threads tell its main thread, which alone talks to the master."""

from __future__ import annotations

import os
from queue import Empty, SimpleQueue

from taskqd.ipc.messages import Message


class Outbox:
    def __init__(self) -> None:
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return what becomes readable (edge-triggered) with each message."""
        return self._bell

    def say(self, message: Message) -> None:
        self._messages.put(message)
        os.eventfd_write(self._bell, 1)

    def take(self) -> list[Message]:
        messages: list[Message] = []
        try:
            while True:
                messages.append(self._messages.get_nowait())
        except Empty:
            return messages

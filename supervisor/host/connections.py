"""The master's connections to its children: channel, pidfd and stack file of each, by key."""

from __future__ import annotations

import os
import selectors
from collections.abc import Sequence
from dataclasses import dataclass

from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Message

from . import syscalls
from .shared_memory import StackFile


@dataclass(slots=True, eq=False)
class Connection:
    """The handles of one child process: owned by `Connections`."""

    key: str
    channel: Channel[Message]
    pidfd: int | None = None
    stacks: StackFile | None = None


class Connections:
    """Channels and pidfds of the children, by worker id or zygote key.

    What can be read, or has broken while something was sent, waits in `take_ready` for the inbox:
    sending never takes in anything.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._by_key: dict[str, Connection] = {}
        self._ready: dict[str, Connection] = {}

    def add(
        self, key: str, channel: Channel[Message], stacks: StackFile | None = None
    ) -> Connection:
        connection = self._by_key[key] = Connection(key, channel, stacks=stacks)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._wake(connection))
        return connection

    def get(self, key: str) -> Connection | None:
        return self._by_key.get(key)

    def take_ready(self) -> list[Connection]:
        """Return the connections that have something to be heard since the last call."""
        ready, self._ready = list(self._ready.values()), {}
        return ready

    def tell(self, key: str, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; to a child whose channel is broken it is lost, which its death explains."""
        connection = self._by_key.get(key)
        if connection is None or connection.channel.fileno() < 0:
            for fd in fds:
                os.close(fd)
            return
        connection.channel.send(message, fds)
        self._watch(connection)
        if not connection.channel.open:
            self._ready[key] = connection

    def adopt(self, key: str, pid: int) -> bool:
        """Take hold of the process; False if it is gone and reaped."""
        connection = self._by_key[key]
        if connection.pidfd is None:
            connection.pidfd = syscalls.open_pidfd(pid)
        return connection.pidfd is not None

    def signal(self, key: str, name: str) -> None:
        connection = self._by_key.get(key)
        if connection is not None and connection.pidfd is not None:
            syscalls.send(connection.pidfd, name)

    def take_stack(self, key: str) -> str:
        """Return what its faulthandler has written since the last call."""
        connection = self._by_key.get(key)
        if connection is None or connection.stacks is None:
            return ""
        return connection.stacks.take()

    def hang_up(self, key: str) -> None:
        """Stop listening; the handles stay until `drop`."""
        connection = self._by_key.get(key)
        if connection is not None and connection.channel.fileno() >= 0:
            self._selector.unregister(connection.channel)
            connection.channel.close()

    def drop(self, key: str) -> None:
        self.hang_up(key)
        self._ready.pop(key, None)
        connection = self._by_key.pop(key, None)
        if connection is None:
            return
        if connection.pidfd is not None:
            os.close(connection.pidfd)
        if connection.stacks is not None:
            connection.stacks.close()

    def all_keys(self) -> list[str]:
        return list(self._by_key)

    def _wake(self, connection: Connection) -> None:
        if connection.channel.waits:
            connection.channel.flush()
            self._watch(connection)
        self._ready[connection.key] = connection

    def _watch(self, connection: Connection) -> None:
        """Wait for room in the channel too, as long as something waits to be sent."""
        if connection.channel.fileno() < 0:
            return
        events = selectors.EVENT_READ
        if connection.channel.waits:
            events |= selectors.EVENT_WRITE
        self._selector.modify(connection.channel, events, lambda: self._wake(connection))

"""A master's context without processes: a real board, real channels, and a log that is kept."""

from __future__ import annotations

import itertools
import selectors
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import create_autospec

from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import (
    Message,
    decode_from_child,
    decode_from_zygote,
    decode_to_child,
    encode,
)
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.supervisor.context import MasterContext
from taskqd.supervisor.host.cgroup import OomCounter
from taskqd.supervisor.host.connections import Connection, Connections
from taskqd.supervisor.host.shared_memory import BoardMemory

from .fleets import NOW, fleet_of


@contextmanager
def context_of(workers: int = 1, **changes: Any) -> Iterator[MasterContext]:
    """Yield the context of a master whose fleet serves, at the time NOW."""
    fleet = fleet_of(workers, **changes)
    memory = BoardMemory(len(fleet.workers) + 1, 1)
    selector = selectors.DefaultSelector()
    context = MasterContext(
        settings=Settings(),
        log=create_autospec(Log, instance=True),
        clock=lambda: NOW,
        chance=lambda: 0.5,
        zygote_argv=[],
        environ={},
        node_id="n",
        node_name="n@here",
        board=memory.board,
        board_fd=memory.fd,
        fleet=fleet,
        connections=Connections(selector),
        serials=itertools.count(1),
        oom=OomCounter(),
        started_s=NOW - 60,
    )
    yield context
    for key in context.connections.all_keys():
        context.connections.drop(key)
    selector.close()
    memory.close()


class Said:
    """What the other end of one connection says."""

    def __init__(self, context: MasterContext, key: str) -> None:
        self._context = context
        self._key = key
        self._theirs: Any = None

    def by_child(self, message: Message) -> Connection:
        return self._say(message, decode_from_child)

    def by_zygote(self, message: Message) -> Connection:
        return self._say(message, decode_from_zygote)

    def _say(self, message: Message, decode: Any) -> Connection:
        channel: Channel[Any]
        channel, self._theirs = Channel.pair(decode)
        self._theirs.send(encode(message))
        return self._context.connections.add(self._key, channel)

    def listening(self) -> Said:
        """Connect a child that hears what the master says, and says nothing."""
        channel: Channel[Any]
        channel, self._theirs = Channel.pair(decode_from_child)
        self._context.connections.add(self._key, channel)
        return self

    def heard(self) -> list[Message]:
        """Return what the master has said since the last call."""
        return Channel(self._theirs, decode_to_child).receive().messages

    def hang_up(self) -> None:
        self._theirs.close()

"""What the parts of the master share: the fleet, the connections to its children, and the totals."""

from __future__ import annotations

import os
import selectors
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from taskqd.ipc.board import Board
from taskqd.ipc.channel import Channel
from taskqd.ipc.messages import Depth, Message
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.supervisor.host.cgroup import WorkerGroups, groups, worker_groups
from taskqd.supervisor.host.file_watcher import FileWatcher
from taskqd.supervisor.host.oom import OomCounter
from taskqd.supervisor.host.shared_memory import StackFile
from taskqd.supervisor.state.fleet import Fleet

from .host import syscalls

COUNTERS = ("done", "failed", "retried", "interrupted")
"""Counters of a board row, in its order, from `board.DONE` on."""


@dataclass(slots=True, eq=False)
class Connection:
    """The handles of one child process: owned by `Connections`."""

    key: str
    channel: Channel[Message]
    pidfd: int | None = None
    stacks: StackFile | None = None


class Connections:
    """Channels and pidfds of the children, by worker id or zygote key."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_readable: Callable[[Connection], None],
    ) -> None:
        self._selector = selector
        self._on_readable = on_readable
        self._by_key: dict[str, Connection] = {}

    def add(
        self, key: str, channel: Channel[Message], stacks: StackFile | None = None
    ) -> Connection:
        connection = self._by_key[key] = Connection(key, channel, stacks=stacks)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._turn(connection))
        return connection

    def get(self, key: str) -> Connection | None:
        return self._by_key.get(key)

    def tell(self, key: str, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; to a child whose channel is broken it is lost, which its death explains."""
        connection = self._by_key.get(key)
        if connection is None:
            for fd in fds:
                os.close(fd)
            return
        connection.channel.send(message, fds)
        self._watch(connection)
        if not connection.channel.open:
            self._on_readable(connection)

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
        return (
            connection.stacks.take()
            if connection is not None and connection.stacks is not None
            else ""
        )

    def hang_up(self, key: str) -> None:
        """Stop listening; the handles stay until `drop`."""
        connection = self._by_key.get(key)
        if connection is not None and connection.channel.fileno() >= 0:
            self._selector.unregister(connection.channel)
            connection.channel.close()

    def drop(self, key: str) -> None:
        self.hang_up(key)
        connection = self._by_key.pop(key, None)
        if connection is None:
            return
        if connection.pidfd is not None:
            os.close(connection.pidfd)
        if connection.stacks is not None:
            connection.stacks.close()

    def names(self) -> list[str]:
        return list(self._by_key)

    def _turn(self, connection: Connection) -> None:
        if connection.channel.waits:
            connection.channel.flush()
            self._watch(connection)
        self._on_readable(connection)

    def _watch(self, connection: Connection) -> None:
        if connection.channel.fileno() < 0:
            return
        events = selectors.EVENT_READ
        if connection.channel.waits:
            events |= selectors.EVENT_WRITE
        self._selector.modify(connection.channel, events, lambda: self._turn(connection))


@dataclass(slots=True)
class Totals:
    """What has happened since the master's start."""

    jobs: Counter[str] = field(default_factory=Counter)
    """By `COUNTERS`, of workers that are gone."""
    deaths: Counter[str] = field(default_factory=Counter)
    """By cause of the verdict."""
    spawned: int = 0
    interrupted: int = 0
    handed_back: int = 0
    orphaned: int = 0


@dataclass(slots=True)
class MasterContext:
    settings: Settings
    log: Log
    clock: Callable[[], float]
    chance: Callable[[], float]
    """Uniform in 0..1."""
    zygote_argv: Sequence[str]
    environ: Mapping[str, str]
    """What children inherit."""
    node_id: str
    node_name: str
    board: Board
    board_fd: int
    fleet: Fleet
    connections: Connections
    serials: Iterator[int]
    oom: OomCounter
    started_s: float
    file_watcher: FileWatcher = field(default_factory=FileWatcher)
    totals: Totals = field(default_factory=Totals)
    app_name: str = ""
    queues: tuple[str, ...] = ()
    storage_url: str = ""
    admin_path: str = ""
    health_address: str = ""
    """HOST:PORT where it is served, "" if it is not."""
    stacks: dict[str, str] = field(default_factory=dict)
    """The stacks read last, by the child's name."""
    depths: tuple[Depth, ...] = ()
    """What the scheduler has counted last."""
    counted_s: float | None = None
    """When; None: never yet."""
    strays: dict[int, tuple[syscalls.Death, float]] = field(default_factory=dict)
    """Reaped pids that nobody knew, with the time: a newborn may die before it is announced."""
    worker_groups: WorkerGroups | None = None
    """The control groups of workers, if they have their own."""

    def build_worker_groups(self) -> None:
        limit = self.settings.workers.memory_limit_bytes
        if limit is None:
            return
        made = worker_groups(limit, groups())
        if isinstance(made, str):
            self.log.emit(events.CELLS_MISSING, reason=made)
        else:
            self.worker_groups = made

    def confine(self, number: int, pid: int) -> None:
        """Put a newborn worker into its own control group, if there are any."""
        if self.worker_groups is None:
            return
        try:
            self.worker_groups.enter(number, pid)
        except ProcessLookupError:
            return  # it is dead already, which is told in its place
        except OSError as error:
            self.log.emit(events.CELLS_MISSING, reason=f"worker {number}: {error.strerror}")

    @property
    def instance(self) -> str:
        return self.settings.name or self.app_name or self.settings.app

"""What the rooms of the master share: the fleet, the lines to its children, and the tally."""

from __future__ import annotations

import os
import selectors
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from taskqd.ipc.board import Board
from taskqd.ipc.messages import Depth, Message
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.supervisor.host.cgroup import Cells, cells, groups
from taskqd.supervisor.host.channel import Channel
from taskqd.supervisor.host.file_watcher import Sources
from taskqd.supervisor.host.oom import OomCounter
from taskqd.supervisor.host.shared_memory import StackFile
from taskqd.supervisor.state.fleet import Fleet

from .host import syscalls as process

COUNTERS = ("done", "failed", "retried", "interrupted")
"""Counters of a board row, in its order, from `board.DONE` on."""


@dataclass(slots=True, eq=False)
class Line:
    """The handles of one child process: owned by `Lines`."""

    key: str
    channel: Channel[Message]
    pidfd: int | None = None
    stacks: StackFile | None = None


class Lines:
    """Channels and pidfds of the children, by worker id or zygote key."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_readable: Callable[[Line], None],
    ) -> None:
        self._selector = selector
        self._on_readable = on_readable
        self._lines: dict[str, Line] = {}

    def add(self, key: str, channel: Channel[Message], stacks: StackFile | None = None) -> Line:
        line = self._lines[key] = Line(key, channel, stacks=stacks)
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._turn(line))
        return line

    def get(self, key: str) -> Line | None:
        return self._lines.get(key)

    def tell(self, key: str, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; to a child whose channel is broken it is lost, which its death explains."""
        line = self._lines.get(key)
        if line is None:
            for fd in fds:
                os.close(fd)
            return
        line.channel.send(message, fds)
        self._watch(line)
        if line.channel.broken:
            self._on_readable(line)

    def adopt(self, key: str, pid: int) -> bool:
        """Take hold of the process; False if it is gone and reaped."""
        line = self._lines[key]
        if line.pidfd is None:
            line.pidfd = process.open_pidfd(pid)
        return line.pidfd is not None

    def signal(self, key: str, name: str) -> None:
        line = self._lines.get(key)
        if line is not None and line.pidfd is not None:
            process.send(line.pidfd, name)

    def take_stack(self, key: str) -> str:
        """Return what its faulthandler has written since the last call."""
        line = self._lines.get(key)
        return line.stacks.take() if line is not None and line.stacks is not None else ""

    def hang_up(self, key: str) -> None:
        """Stop listening; the handles stay until `drop`."""
        line = self._lines.get(key)
        if line is not None and line.channel.fileno() >= 0:
            self._selector.unregister(line.channel)
            line.channel.close()

    def drop(self, key: str) -> None:
        self.hang_up(key)
        line = self._lines.pop(key, None)
        if line is None:
            return
        if line.pidfd is not None:
            os.close(line.pidfd)
        if line.stacks is not None:
            line.stacks.close()

    def names(self) -> list[str]:
        return list(self._lines)

    def _turn(self, line: Line) -> None:
        if line.channel.waits:
            line.channel.flush()
            self._watch(line)
        self._on_readable(line)

    def _watch(self, line: Line) -> None:
        if line.channel.fileno() < 0:
            return
        events = selectors.EVENT_READ
        if line.channel.waits:
            events |= selectors.EVENT_WRITE
        self._selector.modify(line.channel, events, lambda: self._turn(line))


@dataclass(slots=True)
class Tally:
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
class House:
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
    lines: Lines
    serials: Iterator[int]
    oom: OomCounter
    started_s: float
    sources: Sources = field(default_factory=Sources)
    tally: Tally = field(default_factory=Tally)
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
    strays: dict[int, tuple[process.Death, float]] = field(default_factory=dict)
    """Reaped pids that nobody knew, with the time: a newborn may die before it is announced."""
    cells: Cells | None = None
    """The control groups of workers, if they have their own."""

    def build_cells(self) -> None:
        limit = self.settings.workers.memory_limit_bytes
        if limit is None:
            return
        made = cells(limit, groups())
        if isinstance(made, str):
            self.log.emit(events.CELLS_MISSING, reason=made)
        else:
            self.cells = made

    def confine(self, number: int, pid: int) -> None:
        """Put a newborn worker into its own control group, if there are any."""
        if self.cells is None:
            return
        try:
            self.cells.enter(number, pid)
        except ProcessLookupError:
            return  # it is dead already, which is told in its place
        except OSError as error:
            self.log.emit(events.CELLS_MISSING, reason=f"worker {number}: {error.strerror}")

    @property
    def instance(self) -> str:
        return self.settings.name or self.app_name or self.settings.app

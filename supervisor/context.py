"""What the parts of the master share: the fleet, the connections to its children, and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from taskqd.ipc.board import Board
from taskqd.ipc.messages import Depth
from taskqd.logs import events
from taskqd.logs.setup import Log
from taskqd.settings import Settings
from taskqd.supervisor.host.cgroup import OomCounter, WorkerGroups, groups, worker_groups
from taskqd.supervisor.host.connections import Connections
from taskqd.supervisor.host.file_watcher import FileWatcher
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.state.fleet import Fleet

COUNTERS = ("done", "failed", "retried", "interrupted")
"""Counters of a board row, in its order, from `board.DONE` on."""


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
    fenced: int = 0
    """Of workers that are gone."""


@dataclass(slots=True)
class MasterContext:
    """The master's settings, log, clock, fleet and connections: one for all of its parts."""

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
    strays: dict[int, tuple[Death, float]] = field(default_factory=dict)
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

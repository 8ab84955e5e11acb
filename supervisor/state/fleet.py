"""What the master knows of its zygotes, of the posts of its children, and of the daemon.  Pure data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from taskqd.ipc.messages import RecoverWorker, Role
from taskqd.settings import Settings

from .child import Child
from .lifecycle import ChildState
from .limits import UNLIMITED, WorkerLimits
from .memory import MemoryState
from .observation import Observation
from .reload import Reload
from .timeline import Timeline

DEFAULTS = Settings()


@dataclass(slots=True, eq=False)
class Post:
    """A place for one child: a row of the board."""

    number: int
    role: Role
    active: bool = False
    """It shall be filled."""
    child: Child | None = None
    failures: int = 0
    boots_failed: int = 0
    """Deaths in a row before having served."""
    last_step: str = ""
    last_error: str = ""
    spawn_at_s: float = 0.0
    replaces: int | None = None
    """Number of the post whose worker this one's will succeed."""
    reason: str = ""
    """Why that worker is replaced."""


class ZygoteState(StrEnum):
    LOADING = "loading"
    LOADED = "loaded"
    LEAVING = "leaving"
    DEAD = "dead"


@dataclass(slots=True, eq=False)
class Zygote:
    generation: int
    pid: int
    spawned_s: float
    state: ZygoteState = ZygoteState.LOADING
    since_s: float = 0.0
    hung_up_s: float | None = None
    killed_for: str = ""
    rejected: bool = False
    """It said that the app cannot be imported."""
    settings: Settings = DEFAULTS
    queues: tuple[str, ...] = ()
    """What its children serve."""
    unsafe: tuple[str, ...] = ()
    """What a fork of it breaks, by name."""

    @property
    def key(self) -> str:
        return zygote_key(self.generation)


def zygote_key(generation: int) -> str:
    return f"zygote.{generation}"


@dataclass(slots=True)
class PendingRecovery:
    """Jobs of a dead or silent worker that the scheduler must give back."""

    order: RecoverWorker
    sent_to: str = ""
    """Worker id of the scheduler that was told; "": nobody yet."""


@dataclass(slots=True)
class Stop:
    """The stop of the whole daemon."""

    timeline: Timeline
    signal: str
    exit_code: int = 0
    signalled: bool = False
    """By TERM or INT, the next of which means now."""
    hurried: int = 0
    retired: bool = False
    """The scheduler was told to go."""


@dataclass(slots=True)
class Fleet:
    """Everything that `plan` decides from."""

    workers: list[Post]
    scheduler: Post
    grace_s: float
    connect_wait_s: float
    kills_overdue: bool
    """A job past its deadline costs its worker: true where a worker is one slot."""
    burst: bool = False
    zygotes: list[Zygote] = field(default_factory=list)
    zygote_at_s: float = 0.0
    zygote_failures: int = 0
    generation: int = 0
    app_error: str = ""
    """Why the app cannot be imported, "" if it can."""
    loaded_s: float | None = None
    """When the first zygote had loaded."""
    served: bool = False
    """A worker was ready once."""
    quiet: bool = False
    observations: dict[str, Observation] = field(default_factory=dict)
    """By worker id; empty in a round that must not judge."""
    pending_recoveries: dict[str, PendingRecovery] = field(default_factory=dict)
    """By worker id."""
    stop: Stop | None = None
    limits: WorkerLimits = UNLIMITED
    memory: MemoryState = field(default_factory=MemoryState)
    reload: Reload | None = None
    """The one that is under way."""
    reload_asked: list[str] = field(default_factory=list)
    """By whom, since the last one began."""
    reloads_begun: int = 0

    @property
    def posts(self) -> list[Post]:
        return [self.scheduler, *self.workers]

    def children(self) -> Iterator[Child]:
        for post in self.posts:
            if post.child is not None:
                yield post.child

    def living_workers(self) -> list[Child]:
        """Return the living workers."""
        return [post.child for post in self.workers if post.child is not None]

    def child(self, worker_id: str) -> Child | None:
        return next((c for c in self.children() if c.worker_id == worker_id), None)

    def zygote(self) -> Zygote | None:
        """Return the zygote that forks: the newest that has loaded and is not on trial."""
        loaded = [z for z in self.zygotes if z.state is ZygoteState.LOADED]
        steady = [z for z in loaded if z.generation != self.candidate]
        return max(steady, key=lambda z: z.generation, default=None)

    def zygote_of(self, generation: int) -> Zygote | None:
        return next((z for z in self.zygotes if z.generation == generation), None)

    @property
    def candidate(self) -> int:
        """The generation on trial, 0 if there is none."""
        return self.reload.candidate if self.reload is not None else 0

    def on_trial(self, post: Post) -> bool:
        return self.reload is not None and post.number == self.reload.canary

    def post_of(self, child: Child) -> Post:
        return next(post for post in self.posts if post.child is child)

    def successors(self) -> Iterator[Post]:
        """Yield the posts of workers that will succeed others."""
        return (post for post in self.workers if post.active and post.replaces is not None)

    def vacant_post(self) -> Post | None:
        """Return a post that is free for a successor, None if there is none."""
        return next((post for post in self.workers if not post.active and post.child is None), None)

    def regular(self) -> list[Post]:
        """Return the posts that make up the number of workers."""
        return [post for post in self.workers if post.active and post.replaces is None]

    def wanted(self) -> int:
        return len(self.regular())

    def ready(self) -> int:
        return sum(c.state is ChildState.READY for c in self.living_workers())

    def scheduler_ready(self) -> Child | None:
        child = self.scheduler.child
        return child if child is not None and child.state is ChildState.READY else None

"""The fleet: what the master knows of its children.  Pure data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from taskqd.board import SlotView
from taskqd.messages import Role, TakeBack

from .lives import Event, State, next_state
from .stop import Timeline


@dataclass(slots=True, eq=False)
class Child:
    """One worker or scheduler, from the request to spawn it until it is reaped."""

    worker_id: str
    role: Role
    number: int
    generation: int
    spawned_s: float
    state: State = State.SPAWNING
    since_s: float = 0.0
    """When it came into its state."""
    pid: int = 0
    booted: bool = False
    """It has its signal handlers."""
    ready_s: float | None = None
    hung_up_s: float | None = None
    """When its channel broke."""
    storage_error: str = ""
    """"": it reaches its storage."""
    boot_step: str = ""
    boot_error: str = ""
    drained: bool = False
    empty_at: tuple[int, ...] | None = None
    """Burst: its counters when it said that there is nothing left."""
    cpu_s: float | None = None
    """Its processor time when its beat was first found late."""
    cpu_at_s: float = 0.0
    hogs: bool = False
    """Its beat is late, and it computes: a job holds the interpreter, and is not hung."""
    quiet: bool = False
    line: Timeline | None = None
    """Its stop, once it drains."""
    interrupted: bool = False
    taken_back: bool = False
    killed_for: str = ""
    late: SlotView | None = None
    """The job for whose timeout it is killed."""
    ladder: tuple[tuple[float, str], ...] = ()
    """(seconds after `since_s`, signal) of a dying child."""
    rungs: int = 0
    """How many of them are done."""
    stacks_at_s: float | None = None
    """When the stacks that it was asked for can be read."""
    stacks_insisted: bool = False

    def feel(self, event: Event, now_s: float) -> bool:
        """Change the state as the law says; False if the event changes nothing."""
        after = next_state(self.state, event)
        if after is self.state:
            return False
        self.state, self.since_s = after, now_s
        if after is State.READY:
            self.ready_s = now_s
        return True

    @property
    def name(self) -> int | str:
        """Return what logs call it."""
        return self.number if self.role == "worker" else self.role

    @property
    def alive(self) -> bool:
        return self.state is not State.DEAD


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

    @property
    def key(self) -> str:
        return zygote_key(self.generation)


def zygote_key(generation: int) -> str:
    return f"zygote.{generation}"


@dataclass(slots=True)
class Seen:
    """What the board says of one child."""

    beat_age_s: float | None
    """None: no beat yet."""
    busy: list[SlotView]
    counters: tuple[int, ...]
    """jobs done, failed, retried, interrupted"""
    late: SlotView | None = None
    """A job past its deadline, at first sight."""
    overdue: SlotView | None = None
    """The same, seen twice."""


@dataclass(slots=True)
class Debt:
    """Jobs of a dead or silent worker that the scheduler must give back."""

    order: TakeBack
    sent_to: str = ""
    """Worker id of the scheduler that was told; "": nobody yet."""
    retry_at_s: float = 0.0


@dataclass(slots=True)
class Stop:
    """The stop of the whole daemon."""

    line: Timeline
    signal: str
    exit_code: int = 0
    asked: int = 1
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
    seen: dict[str, Seen] = field(default_factory=dict)
    """By worker id; empty in a round that must not judge."""
    debts: dict[str, Debt] = field(default_factory=dict)
    """By worker id."""
    stop: Stop | None = None

    @property
    def posts(self) -> list[Post]:
        return [self.scheduler, *self.workers]

    def children(self) -> Iterator[Child]:
        for post in self.posts:
            if post.child is not None:
                yield post.child

    def crew(self) -> list[Child]:
        """Return the living workers."""
        return [post.child for post in self.workers if post.child is not None]

    def child(self, worker_id: str) -> Child | None:
        return next((c for c in self.children() if c.worker_id == worker_id), None)

    def zygote(self) -> Zygote | None:
        """Return the zygote that forks: the newest that has loaded."""
        loaded = [z for z in self.zygotes if z.state is ZygoteState.LOADED]
        return max(loaded, key=lambda z: z.generation, default=None)

    def wanted(self) -> int:
        return sum(post.active for post in self.workers)

    def ready(self) -> int:
        return sum(c.state is State.READY for c in self.crew())

    def scheduler_ready(self) -> Child | None:
        child = self.scheduler.child
        return child if child is not None and child.state is State.READY else None

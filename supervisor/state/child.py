"""What the master knows of one worker or scheduler.  Pure data: each part says who writes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Role

from .actions import Ladder
from .lifecycle import ChildEvent, ChildState, next_state
from .timeline import Timeline


@dataclass(slots=True)
class Boot:
    """How far a child's start has come, as it said itself; written by the inbox."""

    handles_signals: bool = False
    """Before that a signal would kill it."""
    step: str = ""
    error: str = ""
    """The step that failed, and why; "" if none did."""


@dataclass(slots=True)
class KillSteps:
    """Why and how a dying child is killed; written by `Child.condemn`, its progress by the executor."""

    reason: str = ""
    ladder: Ladder = ()
    """In seconds from `Child.since_s` on."""
    taken: int = 0
    """How many of its steps are done."""


@dataclass(slots=True)
class StackRequest:
    """The stacks that a child was asked for; written by `effects.stacks`."""

    readable_s: float | None = None
    """When they can be read; None: nobody has asked."""
    insisted: bool = False
    """Its faulthandler was asked, which answers whatever its threads do."""
    last: str = ""
    """What it was doing when it was condemned."""


@dataclass(slots=True)
class Load:
    """What a child takes of processor and memory; written by `observation.weigh` and `measure`."""

    cpu_s: float | None = None
    """Its processor time when its beat was first found late."""
    cpu_at_s: float = 0.0
    computes: bool = False
    """Its beat is late, and it computes: a job holds the interpreter, and is not hung."""
    pss_bytes: int = 0
    """Its share of memory when last measured."""
    pss_at_s: float = 0.0


@dataclass(slots=True)
class DrainProgress:
    """How far a child's stop has come; written by the effects, each step by the one that takes it."""

    timeline: Timeline | None = None
    """None: it does not drain."""
    interrupted: bool = False
    """It was told to requeue what it runs."""
    recovery_requested: bool = False
    """What it holds is given back by the scheduler."""
    done: bool = False
    """It said that it holds nothing any more."""


@dataclass(slots=True, eq=False)
class Child:
    """One worker or scheduler, from the request to spawn it until it is reaped."""

    worker_id: str
    role: Role
    number: int
    generation: int
    spawned_s: float
    state: ChildState = ChildState.SPAWNING
    since_s: float = 0.0
    """When it came into its state."""
    pid: int = 0
    ready_s: float | None = None
    hung_up_s: float | None = None
    """When its channel broke."""
    storage_error: str = ""
    """"": it reaches its storage."""
    queues: tuple[str, ...] = ()
    """What a worker leases from; what a scheduler was told to serve."""
    quiet: bool = False
    asks_s: float = 0.0
    """Since when it shall ask for jobs."""
    empty_at: tuple[int, ...] | None = None
    """Burst: its counters when it said that there is nothing left."""
    jitter: float = 1.0
    """Factor of the limits of its service."""
    recycled: bool = False
    """A worker that goes because it has served long enough."""
    being_replaced: bool = False
    """A scheduler that was asked to end, for another to take its place."""
    late: tuple[SlotView, ...] = ()
    """The jobs for whose timeout it drains or is killed."""
    boot: Boot = field(default_factory=Boot)
    kill: KillSteps = field(default_factory=KillSteps)
    stacks: StackRequest = field(default_factory=StackRequest)
    load: Load = field(default_factory=Load)
    drain: DrainProgress = field(default_factory=DrainProgress)

    def apply(self, event: ChildEvent, now_s: float) -> bool:
        """Change the state as `lifecycle` says; False if the event changes nothing."""
        after = next_state(self.state, event)
        if after is self.state:
            return False
        self.state, self.since_s = after, now_s
        if after is ChildState.READY:
            self.ready_s = self.asks_s = now_s
        return True

    def condemn(
        self, reason: str, ladder: Ladder, now_s: float, late: tuple[SlotView, ...] = ()
    ) -> None:
        """Have it killed by these steps, from now on."""
        self.late, self.kill = late, KillSteps(reason, ladder)
        self.apply(ChildEvent.CONDEMNED, now_s)

    @property
    def name(self) -> int | str:
        """Return what logs call it."""
        return self.number if self.role == "worker" else self.role

    @property
    def alive(self) -> bool:
        return self.state is not ChildState.DEAD

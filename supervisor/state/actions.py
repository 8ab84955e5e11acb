"""What the master can do: the words between `plan`, which decides, and `hands`, which acts."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Message

from .timeline import Timeline

Ladder = tuple[tuple[float, str], ...]
"""(seconds from now, signal): the steps by which a process is killed."""
AT_ONCE: Ladder = ((0.0, "SIGKILL"),)
HUNG: Ladder = ((0.0, "SIGUSR1"), (0.3, "SIGTERM"), (1.3, "SIGKILL"))
"""For a worker: its stacks first, then a moment in which it may still settle what it can."""
STUCK: Ladder = ((0.0, "SIGUSR1"), (0.2, "SIGKILL"))
"""For a child that has nothing to settle: its stacks, then the end."""


class StartZygote(NamedTuple):
    generation: int


class RetireZygote(NamedTuple):
    """Tell it to exit."""

    generation: int


class KillZygote(NamedTuple):
    generation: int
    reason: str


class SpawnChild(NamedTuple):
    """Fill the post of this number."""

    number: int


class Tell(NamedTuple):
    worker_id: str
    message: Message


class DrainWorker(NamedTuple):
    worker_id: str
    timeline: Timeline
    late: tuple[SlotView, ...] = ()
    """The job past its deadline for which the others have to go, if that is the reason."""


class InterruptWorker(NamedTuple):
    """Dump its stacks, then tell it to requeue what it runs."""

    worker_id: str


class Kill(NamedTuple):
    """Kill it by these steps."""

    worker_id: str
    reason: str
    ladder: Ladder
    late: tuple[SlotView, ...] = ()
    """The jobs past their deadlines that are the reason."""


class SendSignal(NamedTuple):
    """Take the next step of the ladder."""

    worker_id: str
    signal: str


class DeclareDead(NamedTuple):
    """Count as dead a child that nobody ever saw."""

    worker_id: str


class RequestRecovery(NamedTuple):
    """What this worker holds must be given back."""

    worker_id: str
    how: str


class SendRecovery(NamedTuple):
    """Send one debt to the scheduler."""

    worker_id: str


class BeginStop(NamedTuple):
    """Stop without having been asked from outside."""

    cause: str
    exit_code: int
    now: bool
    error: str = ""


class RetireScheduler(NamedTuple):
    """Tell the scheduler to go."""


class Finish(NamedTuple):
    exit_code: int


class BeginReload(NamedTuple):
    """Read the configuration again and start the next generation's zygote."""


class SpawnCanary(NamedTuple):
    """SpawnChild the canary into the post of this number."""

    number: int


class Promote(NamedTuple):
    """Make the generation on trial the present one."""


class AbortReload(NamedTuple):
    step: str
    error: str


class RollBack(NamedTuple):
    """Replace by the old generation what the new one, which is broken, has replaced."""


class EndReload(NamedTuple):
    """The new generation is complete."""


class Replace(NamedTuple):
    """Prepare a successor for the worker at post `old` in the free post `new`."""

    old: int
    new: int
    reason: str


class TakeOver(NamedTuple):
    """The successor at the post of this number serves: it takes over."""

    number: int


class ShedWorker(NamedTuple):
    """Let one worker go, or kill it, because memory is short."""

    worker_id: str
    reason: str
    kill: bool


class ReplaceScheduler(NamedTuple):
    """Ask the scheduler to end, for another to take its place."""


Action = (
    StartZygote
    | RetireZygote
    | KillZygote
    | SpawnChild
    | Tell
    | DrainWorker
    | InterruptWorker
    | Kill
    | SendSignal
    | DeclareDead
    | RequestRecovery
    | SendRecovery
    | BeginStop
    | RetireScheduler
    | Finish
    | BeginReload
    | SpawnCanary
    | Promote
    | AbortReload
    | RollBack
    | EndReload
    | Replace
    | TakeOver
    | ShedWorker
    | ReplaceScheduler
)

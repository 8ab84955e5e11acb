"""What the master can do: values that `policy.plan` returns and `effects.executor` carries out.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Message, RecoveredAs

from .timeline import Timeline

Ladder = tuple[tuple[float, str], ...]
"""(seconds from now, signal): the steps by which a process is killed."""
AT_ONCE: Ladder = ((0.0, "SIGKILL"),)
HUNG: Ladder = ((0.0, "SIGUSR1"), (0.3, "SIGTERM"), (1.3, "SIGKILL"))
"""For a worker: its stacks first, then a moment in which it may still settle what it can."""
STUCK: Ladder = ((0.0, "SIGUSR1"), (0.2, "SIGKILL"))
"""For a child that has nothing to settle: its stacks, then the end."""


class StartZygote(NamedTuple):
    """Start the process that imports the app and forks the children of this generation."""

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
    """Send a message to it."""

    worker_id: str
    message: Message


class DrainWorker(NamedTuple):
    """Tell it to lease no more, to finish what runs, and to exit."""

    worker_id: str
    timeline: Timeline
    late: tuple[SlotView, ...] = ()
    """The job past its deadline for which the others have to go, if that is the reason."""


class InterruptWorker(NamedTuple):
    """Dump its stacks, then tell it to requeue what it runs."""

    worker_id: str


class Kill(NamedTuple):
    """Have it killed by these steps."""

    worker_id: str
    reason: str
    ladder: Ladder
    late: tuple[SlotView, ...] = ()
    """The jobs past their deadlines that are the reason."""


class SendSignal(NamedTuple):
    """Take the next step by which it is killed."""

    worker_id: str
    signal: str


class DeclareDead(NamedTuple):
    """Count as dead a child that nobody ever saw."""

    worker_id: str


class RequestRecovery(NamedTuple):
    """Note that what this worker holds must be given back."""

    worker_id: str
    how: RecoveredAs


class SendRecovery(NamedTuple):
    """Tell the scheduler to give back what this worker held."""

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
    """Spawn the first worker of the generation on trial into the post of this number."""

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
    """Let one worker go because memory is short, or kill it."""

    worker_id: str
    reason: str
    kill: bool


class ReplaceScheduler(NamedTuple):
    """Ask the scheduler to end, for another to take its place."""


ReloadAction = (
    BeginReload
    | SpawnCanary
    | Promote
    | AbortReload
    | RollBack
    | EndReload
    | Replace
    | TakeOver
    | ReplaceScheduler
)
"""What `effects.reloader` carries out."""

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
    | ShedWorker
    | RequestRecovery
    | SendRecovery
    | BeginStop
    | RetireScheduler
    | Finish
    | ReloadAction
)

"""What the master can do: the words between `plan`, which decides, and `hands`, which acts."""

from __future__ import annotations

from typing import NamedTuple

from taskqd.ipc.board import SlotView
from taskqd.ipc.messages import Message

from .timeline import Timeline

Ladder = tuple[tuple[float, str], ...]
"""(seconds from now, signal): the steps by which a process is killed."""
AT_ONCE: Ladder = ((0.0, "SIGKILL"),)


class StartZygote(NamedTuple):
    generation: int


class RetireZygote(NamedTuple):
    """Tell it to exit."""

    generation: int


class KillZygote(NamedTuple):
    generation: int
    reason: str


class Spawn(NamedTuple):
    """Fill the post of this number."""

    number: int


class Tell(NamedTuple):
    worker_id: str
    message: Message


class Drain(NamedTuple):
    worker_id: str
    line: Timeline
    late: tuple[SlotView, ...] = ()
    """The job past its deadline for which the others have to go, if that is the reason."""


class Interrupt(NamedTuple):
    """Dump its stacks, then tell it to requeue what it runs."""

    worker_id: str


class Condemn(NamedTuple):
    """Kill it by these steps."""

    worker_id: str
    reason: str
    ladder: Ladder
    late: tuple[SlotView, ...] = ()
    """The jobs past their deadlines that are the reason."""


class Signal(NamedTuple):
    """Take the next step of the ladder."""

    worker_id: str
    signal: str


class GiveUp(NamedTuple):
    """Count as dead a child that nobody ever saw."""

    worker_id: str


class Owe(NamedTuple):
    """What this worker holds must be given back."""

    worker_id: str
    how: str


class Pay(NamedTuple):
    """Send one debt to the scheduler."""

    worker_id: str


class BeginStop(NamedTuple):
    """Stop without having been asked from outside."""

    cause: str
    exit_code: int
    now: bool
    error: str = ""


class Retire(NamedTuple):
    """Tell the scheduler to go."""


class Finish(NamedTuple):
    exit_code: int


class BeginReload(NamedTuple):
    """Read the configuration again and start the next generation's zygote."""


class Try(NamedTuple):
    """Spawn the canary into the post of this number."""

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


class Supersede(NamedTuple):
    """The successor at the post of this number serves: it takes over."""

    number: int


class FreeMemory(NamedTuple):
    """Let one worker go, or kill it, because memory is short."""

    worker_id: str
    reason: str
    kill: bool


class Relieve(NamedTuple):
    """Ask the scheduler to end, for another to take its place."""


Action = (
    StartZygote
    | RetireZygote
    | KillZygote
    | Spawn
    | Tell
    | Drain
    | Interrupt
    | Condemn
    | Signal
    | GiveUp
    | Owe
    | Pay
    | BeginStop
    | Retire
    | Finish
    | BeginReload
    | Try
    | Promote
    | AbortReload
    | RollBack
    | EndReload
    | Replace
    | Supersede
    | FreeMemory
    | Relieve
)

"""What master, zygote, workers and scheduler say to each other.  Pure values, one JSON each.

They travel over a SOCK_SEQPACKET pair per child, one message a packet, so there is no framing;
end of file on either side means that the other process is gone.  Order of a worker's life:
`Booted`, `Ready`, then any of the others, last `Drained`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PACKET_BYTES_MAX = 128 * 1024
Role = Literal["worker", "scheduler"]
RecoveredAs = Literal["orphaned", "interrupted", "timeout", "released"]
"""How the jobs of a worker are given back that had started."""


class Message(msgspec.Struct, frozen=True, tag_field="m", tag=str.lower):
    """Base of all messages."""


# -- master -> zygote --------------------------------------------------------------------------


class Spawn(Message, frozen=True):
    """Fork one child.

    The packet carries two descriptors as ancillary data: the child's end of its channel, and an
    append-only memory file to which the child's faulthandler writes its stacks on SIGUSR1.
    """

    role: Role
    number: int
    """The worker's number: its row on the board, its name in titles and logs."""
    worker_id: str
    """"<node id>.<serial>": new at each spawn."""


class Exit(Message, frozen=True):
    """The zygote shall exit; the children that it forked live on."""


# -- zygote -> master --------------------------------------------------------------------------


class Loaded(Message, frozen=True):
    """The app is imported and frozen; children can be forked."""

    app_name: str
    storage_url: str
    """With the password masked."""
    tasks: int
    queues: tuple[str, ...]
    """Every queue that the app's tasks name."""
    periodic: int
    import_ms: float


class LoadFailed(Message, frozen=True):
    """The app cannot be imported; the zygote exits after this."""

    step: str
    error: str
    """One line: what failed, with the path that was tried."""
    traceback: str = ""


class Files(Message, frozen=True):
    """Files of the user's that were imported; said before `Loaded` or `LoadFailed` where they are
    watched, in as many messages as it takes."""

    paths: tuple[str, ...]


class Unsafe(Message, frozen=True):
    """Threads and connected sockets that a fork would break, by name; each is told once."""

    offenders: tuple[str, ...]
    forks: bool
    """False: children are new interpreters from now on."""


class Forked(Message, frozen=True):
    worker_id: str
    pid: int


class ForkFailed(Message, frozen=True):
    worker_id: str
    error: str


# -- worker, scheduler -> master ---------------------------------------------------------------


class Booted(Message, frozen=True):
    pid: int


class BootFailed(Message, frozen=True):
    """The child exits after this.  `step`: "storage", "hook", "slots", ..."""

    step: str
    error: str


class Ready(Message, frozen=True):
    """The child serves: a worker has asked its storage for jobs once and been answered."""

    loop: str = ""
    """The event loop that its jobs share, "" for none."""


class StorageLost(Message, frozen=True):
    """Sent when it is lost, and again when that has another cause."""

    error: str
    refused: bool = False
    """Waiting does not help: somebody has to change something."""


class StorageRestored(Message, frozen=True):
    down_s: float


class Empty(Message, frozen=True):
    """Burst: the queues are empty and this child holds nothing."""


class Drained(Message, frozen=True):
    """The child's last word: it holds no lease any more."""

    finished: int = 0
    handed_back: int = 0
    interrupted: int = 0


class WorkerRecovered(Message, frozen=True, tag="tookback"):
    """Scheduler: answer to `RecoverWorker`."""

    worker_id: str
    orphaned: int
    released: int
    interrupted: int


class Depth(msgspec.Struct, frozen=True):
    """How many jobs of one queue are in each state."""

    queue: str
    queued: int
    scheduled: int
    running: int
    dead: int
    paused: bool


class Counted(Message, frozen=True):
    """Scheduler: answer to `Count`; of very many queues, those with the most waiting jobs."""

    queues: tuple[Depth, ...]


# -- master -> worker, scheduler ---------------------------------------------------------------


class Drain(Message, frozen=True):
    """Stop leasing, hand unstarted jobs back, finish what runs within `grace_s`, say Drained, exit.

    The master decides when the grace is over and says so (`Interrupt`); `grace_s` is for jobs that
    ask how long they have.  To the scheduler: stop ticking; it stays until `Retire`.
    """

    grace_s: float


class Interrupt(Message, frozen=True):
    """Raise JobInterrupted in what still runs, where that is safe; requeue as interrupted (fenced)
    what has not ended after `patience_s`, settle what is finished, say Drained.
    """

    patience_s: float = 0.0


class Quiet(Message, frozen=True):
    """Stop leasing, hand unstarted jobs back, stay up."""


class Resume(Message, frozen=True):
    pass


class Reopen(Message, frozen=True):
    """Open the log file again: it was rotated."""


class RecoverWorker(Message, frozen=True, tag="takeback"):
    """To the scheduler: call `Storage.recover_worker`."""

    worker_id: str
    running: tuple[int, ...]
    """Tokens from the board."""
    how: RecoveredAs
    verdict: str = ""
    late: tuple[int, ...] = ()
    """Of `running`, those that are taken back as "timeout"; the others are "interrupted"."""


class Serve(Message, frozen=True):
    """To the scheduler: keep the node's lease on these queues too; another generation has them."""

    queues: tuple[str, ...]


class Count(Message, frozen=True):
    """To the scheduler: count the jobs of all queues."""


class Retire(Message, frozen=True):
    """To the scheduler, last: retire the node, say Drained, exit."""


ToZygote = Spawn | Exit
FromZygote = Files | Loaded | LoadFailed | Unsafe | Forked | ForkFailed
ToChild = Drain | Interrupt | Quiet | Resume | Reopen | RecoverWorker | Serve | Count | Retire
FromChild = (
    Booted
    | BootFailed
    | Ready
    | StorageLost
    | StorageRestored
    | Empty
    | Drained
    | WorkerRecovered
    | Counted
)

encode = msgspec.json.Encoder().encode
decode_to_zygote = msgspec.json.Decoder(ToZygote).decode
decode_from_zygote = msgspec.json.Decoder(FromZygote).decode
decode_to_child = msgspec.json.Decoder(ToChild).decode
decode_from_child = msgspec.json.Decoder(FromChild).decode


class ChildContext(msgspec.Struct, frozen=True):
    """What the master tells a new zygote, in the environment variable `CONTEXT_ENV` as JSON."""

    settings: str
    """`taskqd.settings.encode`"""
    generation: int
    node_id: str
    node_name: str
    master_pid: int
    channel_fd: int
    board_fd: int
    board_rows: int
    board_slots: int
    scheduler_row: int
    """The board's row of the scheduler (workers use 0 .. scheduler_row - 1)."""


CONTEXT_ENV = "TASKQD_CHILD_CONTEXT"

"""The storage contract: what every storage does, in batches, atomically and repeatably.

A storage belongs to one namespace (an app's name).  The invariants that the contract suite
(`tests/contract`) and the state machine (`tests/property`) hold for each implementation:

1. A job is in exactly one of: scheduled, queued, leased by one worker of one node, dead, ended.
2. An outcome whose token is not current changes nothing, and `settle` says so.
3. A lease lasts as long as its node's lease, which one heartbeat renews for all its workers and
   which expires by the storage's own clock.
4. `recover_worker` gives a dead worker's jobs back at once; `recover` those of expired nodes, at a
   cost that depends on what has expired, not on what is running.
5. Higher priority first, then first in first out.  What is given back goes to the head.
6. Every call can be repeated after a lost reply.

What the suite takes these to mean:

- An id is known while its job waits, runs, is dead or has an answer within its lifetime.  It is
  known to one queue; only users' own ids could ever occur in two.
- A `run_at_ms` that has passed means now.  "Now" is the tail of the job's priority; "back" is its
  head, and several go back in the order in which they were leased.  A requeue without delay goes
  to the head, a retry without delay and a revived job to the tail.
- A suspect is queued, in a lane of its own; a lone worker is offered it before any other job of
  that queue.  Unstarted and given back, it is a suspect still; however else its lease ends, it is
  none any more.
- "True when first sent" holds for a repeat of the worker's latest outcomes, whatever their kind.
- `settle` and `release` do not need a live node; a `turn` that wants jobs (limit > 0) raises
  NodeExpired before it settles anything.  So does one of a worker that `recover_worker` has named:
  it may have sent it before it died, and nobody would recover what it got.
- A buried job is dead and has its answer; reviving it drops that answer.  An outcome with an empty
  answer leaves none, so the job is forgotten (unless it is dead).
- A paused queue "holds something".

Every method may raise StorageUnavailable (try again), StorageRefused or StorageCorrupt.  Times
are Unix milliseconds unless a name says otherwise.  Durations given by callers are relative, so
that only the storage's clock counts.

A storage object is used by one thread at a time, except `ring`-free read methods where an
implementation says otherwise; it must not be carried over a fork: `App` opens one per process
and per thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

import msgspec

from taskqd.jobs.job import Entry, Lease, Marks, Outcome, State
from taskqd.storage.features import Features


class Node(msgspec.Struct, frozen=True):
    """One daemon on one host; `id` is new at every boot."""

    id: str
    name: str = ""
    """Stable: instance@host.  A daemon that starts recovers a dead predecessor of its name at once."""
    host: str = ""
    """Identifies the running kernel and pid namespace, so that `pid` can be judged dead or alive."""
    pid: int = 0
    pid_started: int = 0
    """Start time of `pid` in clock ticks since boot (man 5 proc: stat, starttime)."""
    info: dict[str, str] = {}


class NodeRow(NamedTuple):
    node: Node
    expires_in_s: float
    """Negative: expired, not yet recovered."""
    workers: dict[str, int]
    """Worker id -> jobs it holds."""


class Leased(NamedTuple):
    """What a turn gives a worker: what became of its outcomes, and its new jobs."""

    settled: list[bool]
    """For each outcome given: True if it took effect (now, or when first sent)."""
    leases: list[Lease]
    ready: int
    """Jobs still queued in the queues asked for (a hint for read-ahead)."""
    suspects: int
    """Suspects waiting for a worker that holds nothing."""
    stops: tuple[str, ...] = ()
    """Ids of jobs held by this worker that should stop; told again each turn until they have ended."""
    revocations: int = 0
    """Not 0: there are standing orders; look at `revocations()` before running anything.

    Another number than last time: they have changed."""


class Recovered(NamedTuple):
    """One job that was taken from a worker that is gone."""

    id: str
    queue: str
    worker: str
    how: str
    """"released" (had not started), "orphaned" (a crash was counted) or "interrupted"."""
    marks: Marks
    """After counting.  Budgets are the next worker's business: it buries before it runs."""
    suspect: bool = False


class Fired(IntEnum):
    """What became of a tick; false if it had fired before."""

    BEFORE = 0
    NOW = 1
    HELD = 2
    """It fires now, but none of its jobs came in: somebody holds their unique keys."""


class Due(NamedTuple):
    promoted: int
    next_in_s: float | None
    """Seconds until the earliest delayed job is due; None: there is none."""


class JobRow(NamedTuple):
    """A job as introspection sees it."""

    id: str
    queue: str
    state: State
    record: bytes
    """Empty for an ended job: then `answer` tells."""
    run_at_ms: int = 0
    """scheduled: due at; dead: died at."""
    worker: str = ""
    reason: str = ""
    answer: bytes = b""


class QueueRow(NamedTuple):
    name: str
    queued: int
    scheduled: int
    running: int
    dead: int
    paused: bool


class Bell(Protocol):
    """How an idle worker waits without polling.  One per worker, used by its pump only."""

    def fileno(self) -> int:
        """Return what to select for reading once armed (-1: nothing, wake by `poll_s` alone).

        May change after every `arm`.
        """
        ...

    @property
    def poll_s(self) -> float:
        """Ask again after so many seconds without a ring: the net under lost notifications."""
        ...

    def arm(self) -> None:
        """Say that this worker is idle.  Call after a turn that leased nothing, then turn once more
        (with `idle=True`) before sleeping, so that a job enqueued between the two is not missed.
        """
        ...

    def answer(self) -> list[Lease] | None:
        """Consume the ring; call when `fileno` is readable.

        Returns jobs handed over with it (they are leased), or [] for "ask now".  None: nobody rang,
        and the bell is armed still; look at `fileno` again.
        """
        ...

    def disarm(self) -> list[Lease]:
        """Say that this worker is not idle any more; returns jobs that were handed over meanwhile."""
        ...

    def close(self) -> None: ...


class Storage(Features, Protocol):
    """The contract; see the module's docstring.  Its second half is in `features.py`.

    Its sections are the modules of each storage (memory, SQLite, Redis), by name.
    """

    namespace: str

    # -- enqueue -----------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Entry]) -> list[bool]:
        """Write jobs durably, wake idle workers.  False: that id was known already (one job).

        `Entry.fresh` promises that the id is new, which saves a look-up.  Raises QueueFull with
        nothing (or a prefix, which a repeat completes) written; OutcomeUnknown where the reply
        was lost: repeat with `fresh=False`.
        """
        ...

    # -- leases ------------------------------------------------------------------------------

    def lease(
        self, worker: str, queues: Sequence[str], limit: int, *, alone: bool = False
    ) -> Leased:
        """`turn` without outcomes."""
        ...

    def settle(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        """`turn` without leasing."""
        ...

    def turn(
        self,
        worker: str,
        outcomes: Sequence[Outcome],
        queues: Sequence[str],
        limit: int,
        *,
        alone: bool = False,
        idle: bool = False,
        share: int = 1,
    ) -> Leased:
        """Settle what is finished and lease up to `limit` jobs, in one round trip per queue.

        `worker` is "<node id>.<serial>"; its node must have been registered for these queues
        (else NodeExpired).  Queues are asked in the order given, until `limit` is reached.
        `alone`: the worker holds nothing, so it may be given one suspect (and then nothing else).
        `idle`: the worker's bell is armed; with nothing to lease it counts as idle, and a job that
        comes may be handed to it.  `share`: lease at most ceil(ready / share), at least 1, so that
        a short queue spreads over `share` workers.  Paused queues give nothing.
        """
        ...

    def settle_late(self, worker: str, outcomes: Sequence[Outcome]) -> list[bool]:
        """Offer ends (ack, cancel, bury) that `settle` has refused; True: it counts after all.

        It does where `recover` had taken the job from this worker's silent node, and it has not
        started since: it waits, or was given up for that (poisoned, or lost as one that is to run
        at most once).
        """
        ...

    def release(self, worker: str, leases: Sequence[tuple[str, str, int]]) -> list[bool]:
        """Give unstarted jobs (id, queue, token) back to the head in their order; nothing counted."""
        ...

    def holdings(self, worker: str, queues: Sequence[str]) -> list[Lease]:
        """Return all that `worker` holds: after a lost reply it may hold jobs that it never saw."""
        ...

    def bell(self, worker: str, queues: Sequence[str]) -> Bell: ...

    def timer_bell(self, queues: Sequence[str]) -> Bell:
        """Return a bell for a scheduler that sleeps until `Due.next_in_s`.

        It rings when a job becomes the earliest delayed one of its queue (enqueued, retried,
        rescheduled), so call `promote` again.  `arm` it before the call of `promote` whose
        `next_in_s` is slept by; its `answer` and `disarm` return [].  It may ring needlessly.
        """
        ...

    # -- nodes -------------------------------------------------------------------------------

    def register(self, node: Node, queues: Sequence[str], lease_s: float) -> int:
        """Make the node known for these queues and start its lease.  Repeatable.

        Returns of how many jobs a crash is taken back: `recover` had counted it, and the node lives.
        They count as interrupted instead, and are no suspects any more.
        """
        ...

    def heartbeat(self, node: str, queues: Sequence[str], lease_s: float) -> bool:
        """Renew the node's lease.  False: it had expired and was recovered; register again."""
        ...

    def retire(self, node: str, queues: Sequence[str]) -> None:
        """Forget a node that stops cleanly and holds nothing (else its jobs are released)."""
        ...

    def recover(self, queues: Sequence[str], *, spare: str = "") -> list[Recovered]:
        """Recover the jobs of all nodes whose lease is over; `spare`: a node that is known to live.

        A lease is over where it has ended by the storage's clock, and the storage has served without
        a break for as long (`taskqd.storage.expiry`): after an outage, a failover or a jump of its
        clock everybody has one more lease to renew.

        Which of the jobs had started is not known, so each is counted as crashed, until the node
        registers again; where a worker held several they become suspects: leased one at a time, by
        a worker that holds nothing.
        """
        ...

    def next_expiry_s(self, queues: Sequence[str], *, spare: str = "") -> float | None:
        """Return after how many seconds the first node's lease ends, None where there is no node.

        Negative: it has ended, and the storage has not served for long enough since a break.
        """
        ...

    def recover_node(self, node: str, queues: Sequence[str]) -> list[Recovered]:
        """As `recover`, for one node that is known to be dead, whatever its lease says."""
        ...

    def recover_worker(
        self,
        worker: str,
        queues: Sequence[str],
        *,
        running: Sequence[int],
        how: str,
        verdict: str = "",
    ) -> list[Recovered]:
        """Recover all that one worker holds.

        `running`: tokens of the jobs that had started; the others are released, nothing counted.
        `how`: "orphaned" counts a crash (several running ones become suspects; `verdict` is kept
        as their error), "interrupted" counts an interruption, back to the head, never suspect,
        "timeout" counts a failure with `verdict` as its error, back to the head, never suspect,
        "released" counts nothing.  A verdict is kept as it is, also one of several lines.  The
        worker never leases again, nor is it handed a job or gets a lock: its id is not used twice.
        """
        ...

    def nodes(self) -> list[NodeRow]: ...

    # -- timers ------------------------------------------------------------------------------

    def promote(self, queues: Sequence[str], limit: int = 1000) -> Due:
        """Move due jobs to their queues, in order of their time."""
        ...

    def fire(self, tick: str, jobs: Sequence[Entry], ttl_s: int = 86400 * 7) -> Fired:
        """Enqueue the jobs of a tick once, whoever calls how often; false where it had fired.

        `ttl_s`: how long the tick is known.
        """
        ...

    def last_tick(self, name: str) -> int | None:
        """Return the Unix ms of the newest tick ``name@ms`` that fired, None if none is known."""
        ...

    def purge(self, queues: Sequence[str], *, dead_ttl_s: int, dead_max: int) -> int:
        """Drop what is past its lifetime (answers, ticks, dead letters over their bounds)."""
        ...

    # -- answers -----------------------------------------------------------------------------

    def answer(self, job_id: str, queue: str | None = None) -> bytes | None:
        """Return the encoded `Answer` of an ended job, None if it has none (yet)."""
        ...

    def answers(self, jobs: Sequence[tuple[str, str | None]]) -> list[bytes | None]: ...

    def wait(self, jobs: Sequence[tuple[str, str | None]], timeout_s: float) -> None:
        """Sleep until one of the jobs (id, queue) has its answer, without polling.

        May return early or at `timeout_s`; the caller looks and calls again.
        """
        ...

    # -- control -----------------------------------------------------------------------------

    def cancel(self, job_id: str, queue: str | None, answer: bytes, ttl_s: int) -> bool:
        """End a waiting job as cancelled, at once.  False: it is not waiting."""
        ...

    def reschedule(self, job_id: str, queue: str | None, run_at_ms: int) -> bool:
        """Give a waiting job a new time (0: now).  False: it is not waiting."""
        ...

    def revive(self, job_ids: Sequence[str]) -> int:
        """Put dead letters back at the tail of their queues, marks cleared; returns how many."""
        ...

    def purge_dead(self, job_ids: Sequence[str] | None = None) -> int:
        """Drop these dead letters (None: all)."""
        ...

    def purge_queue(self, queue: str) -> int:
        """Drop all queued and scheduled jobs of a queue; running ones go on."""
        ...

    def pause(self, queue: str) -> None: ...

    def resume(self, queue: str) -> None: ...

    # -- views -------------------------------------------------------------------------------

    def job(self, job_id: str, queue: str | None = None) -> JobRow | None: ...

    def jobs(self, state: State, queue: str | None = None) -> Iterator[JobRow]:
        """Iterate lazily, page by page; jobs that move meanwhile may be missed or seen twice."""
        ...

    def parts(self, queues: Sequence[str]) -> list[list[str]]:
        """Return the queues by what is away together: those of one list share a server.

        Asks nobody; servers that have failed lately come last.
        """
        ...

    def queues(self) -> list[QueueRow]:
        """Every queue that was ever used in this namespace and still holds something."""
        ...

    # -- the storage itself ------------------------------------------------------------------

    def epoch(self) -> str:
        """Return the storage's random id, made at first use: another one means another storage."""
        ...

    def server_ms(self) -> int:
        """Return Unix time in milliseconds by the clock that this storage goes by."""
        ...

    def ping(self) -> None:
        """Raise where the storage cannot serve (unreachable, read-only, loading, refusing)."""
        ...

    def warnings(self) -> list[str]:
        """Return what an operator should know (eviction, persistence, version); [] if nothing."""
        ...

    def leftovers(self) -> Iterable[str]:
        """Name every key or row that belongs to no waiting or running job, answer, dead letter,
        node or tick within its lifetime: a leak.
        """
        ...

    def close(self) -> None: ...

"""One worker's leases: what its slots hold, what is finished and not settled, and when to act.

Pure bookkeeping between the slots and the storage; it calls neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskqd.jobs.end import End, follow_ups_of
from taskqd.jobs.job import Outcome

from .prefetch import SLICE_NS, Prefetch

FLUSH_S = 0.005
"""The oldest outcome waits no longer than this for company."""
FLUSH_COUNT = 64
SLICE_S = SLICE_NS / 1e9


class SetAside(NamedTuple):
    """What the server of one queue is to be told, once it is not away any more."""

    sent: list[Outcome]
    """It was sent without an answer, and is repeated as it was."""
    new: list[Outcome]


class LeaseLedger:
    """Counts of one worker with `capacity` slots."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.prefetch = Prefetch(capacity)
        self.in_slots = 0
        """Jobs handed to the slots and not collected: running or unstarted."""
        self.ends: list[End] = []
        """Of these, what follows them is to be written first."""
        self.unsettled: list[Outcome] = []
        self.dry = False
        """The last turn gave nothing, and nothing has happened since."""
        self._alone = False
        self._sent = 0
        """How many of `unsettled` were sent without an answer."""
        self._aside: dict[str, SetAside] = {}
        """By queue: what its server is to be told when it is back."""
        self._oldest_s = math.inf
        self._progress_s = 0.0

    def handed(self, count: int, now_s: float, *, alone: bool = False) -> None:
        self._alone = alone or self.lone
        self.in_slots += count
        self._progress_s = now_s

    def withdrawn(self, count: int) -> None:
        self.in_slots -= count
        # law: a worker with a free slot asks, or is armed to be woken; it never does neither
        # (test_worker_that_gave_everything_back_asks_again).
        self.dry = self.dry and not self.free

    def finished(self, outcomes: list[Outcome], now_s: float) -> None:
        self.in_slots -= len(outcomes)
        self.dry = False
        self._progress_s = now_s
        if ends := [end for end in outcomes if isinstance(end, End) and end.follow_ups]:
            self.ends += ends
            outcomes = [outcome for outcome in outcomes if not follow_ups_of(outcome)]
        if outcomes and not self.unsettled:
            self._oldest_s = now_s
        self._to_settle(outcomes)

    def take_ends(self) -> list[End]:
        """Return those whose follow-ups are to be written now."""
        ends, self.ends = self.ends, []
        return ends

    def followed(self, ends: Sequence[Outcome]) -> None:
        """Learn that what follows these is written: they are to be settled, at once."""
        if ends:
            self._oldest_s = -math.inf
            self._to_settle(ends)

    def _to_settle(self, outcomes: Sequence[Outcome]) -> None:
        if self._aside:
            for outcome in outcomes:
                if outcome.queue in self._aside:
                    self._aside[outcome.queue].new.append(outcome)
            outcomes = [outcome for outcome in outcomes if outcome.queue not in self._aside]
        self.unsettled += outcomes

    @property
    def pending(self) -> int:
        """How many have ended and are not settled."""
        return len(self.ends) + len(self.unsettled) + len(self.set_aside)

    # -- queues whose server is away ---------------------------------------------------------

    def put_aside(self, queues: Iterable[str]) -> None:
        """Keep what these queues are to be told until `take_up`; the others' outcomes go on."""
        for queue in queues:
            self._aside.setdefault(queue, SetAside([], []))
        for number, outcome in enumerate(self.unsettled):
            if outcome.queue in self._aside:
                sent, new = self._aside[outcome.queue]
                (sent if number < self._sent else new).append(outcome)
        self._sent = sum(o.queue not in self._aside for o in self.unsettled[: self._sent])
        self.unsettled = [o for o in self.unsettled if o.queue not in self._aside]

    @property
    def has_aside(self) -> bool:
        """Whether any queue's outcomes are put aside, or would be."""
        return bool(self._aside)

    @property
    def set_aside(self) -> list[Outcome]:
        """Return all that is put aside."""
        return [outcome for aside in self._aside.values() for outcome in (*aside.sent, *aside.new)]

    def sent_to(self, queue: str) -> list[Outcome]:
        """Return what is to be repeated to a queue that is back, before anything else."""
        return self._aside[queue].sent if queue in self._aside else []

    def take_up(self, queue: str) -> None:
        """Learn that the queue's server has answered that: the rest is to be settled with the others."""
        if queue in self._aside:
            self.followed(self._aside.pop(queue).new)

    def sending(self) -> list[Outcome]:
        """Return what to send now.

        law: what was sent without an answer is repeated as it was, and alone: a storage knows a
        repeat only of a worker's latest outcomes
        (test_what_was_sent_without_an_answer_is_repeated_alone).
        """
        self._sent = self._sent or len(self.unsettled)
        return self.unsettled[: self._sent]

    def answered(self) -> None:
        """Forget what was sent: the storage has it."""
        del self.unsettled[: self._sent]
        self._sent = 0
        # The others are new; they were finished while the storage did not answer.
        self._oldest_s = -math.inf if self.unsettled else math.inf

    @property
    def lone(self) -> bool:
        """What the slots hold is a suspect: nothing may run beside it."""
        return self._alone and self.in_slots > 0

    @property
    def free(self) -> bool:
        """A slot could start a job now."""
        return self.in_slots < self.capacity

    @property
    def ring_at(self) -> int:
        """Unstarted jobs at which a slot that has finished one wakes the worker's loop.

        law: while the slots can start all that waits, each end is told.  The jobs that come next
        may be long, and nobody would ring for what was finished before them
        (test_an_outcome_was_settled_a_second_late_when_long_jobs_had_been_read_ahead).
        """
        return max(self.capacity, self.prefetch.low)

    def limit(self) -> int:
        """Return how many jobs to ask for, 0 for not now."""
        if self.dry or self.lone or not self.prefetch.worth_asking(self.in_slots):
            return 0
        return self.prefetch.limit(self.in_slots)

    def flush_due(self, now_s: float) -> bool:
        return bool(self.ends or self.unsettled) and (
            bool(self.ends)
            or not self.in_slots
            or len(self.unsettled) >= FLUSH_COUNT
            or now_s >= self._oldest_s + FLUSH_S
        )

    def stalled(self, waiting: int, now_s: float) -> bool:
        """Return whether unstarted jobs wait behind ones that outlast their slice.

        With a slot free they wait for nothing but a CPU, and are where they should be.
        """
        return self._blocked(waiting) and now_s >= self._progress_s + SLICE_S

    def _blocked(self, waiting: int) -> bool:
        return waiting > 0 and self.in_slots - waiting >= self.capacity

    def next_s(self, waiting: int) -> float:
        """Return when to look again although nobody rings, on the monotonic clock."""
        stalled_s = self._progress_s + SLICE_S if self._blocked(waiting) else math.inf
        flush_s = -math.inf if self.ends else self._oldest_s + FLUSH_S
        return min(flush_s, stalled_s)

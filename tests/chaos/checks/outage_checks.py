"""What jobs that were under way during an outage show.  Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.chaos.checks.locks_and_rates import S, holds, overlaps
from tests.chaos.ledger import Line

RUNS_AWAY = 2
"""Starts of a job whose daemon alone was cut off: there, and once more elsewhere."""


class Round(NamedTuple):
    """One outage, and all that was enqueued for it."""

    expected: Mapping[str, str]
    """Id of each job that is owed -> its kind."""
    states: Mapping[str, str]
    """What the storage says of them when all is over."""
    lines: Sequence[Line]
    """What the jobs wrote."""
    log: Sequence[Mapping[str, object]]
    """What the daemons logged since the round began."""
    places: int
    """How many of kind "few" may run at a time."""
    cut_off: frozenset[int] = frozenset()
    """Processes of the daemon that alone was cut off; {}: the storage was away for all."""
    blamed: Mapping[str, int] = {}
    """Id of a job -> crashes that it counted still when that daemon had been heard again."""


def broken(seen: Round) -> Iterator[str]:
    """Yield each law that does not hold."""
    yield from _lost(seen)
    yield from _second_starts(seen)
    yield from _counted(seen)
    # A lock is not held in two places; where its holder was cut off, it was taken from it.
    if not seen.cut_off:
        yield from _locks(seen)
        yield from _crowd(seen)
    yield from _told(seen)


def _lost(seen: Round) -> Iterator[str]:
    for job, kind in seen.expected.items():
        if seen.states.get(job) != "done":
            yield f"{kind} {job} is {seen.states.get(job) or 'not known'}"


def _second_starts(seen: Round) -> Iterator[str]:
    begun = defaultdict[str, list[Line]](list)
    for line in seen.lines:
        if line.e == "begin":
            begun[line.id].append(line)
    for job, kind in seen.expected.items():
        count, first = len(begun[job]), begun[job][0] if begun[job] else None
        taken = first is not None and first.pid in seen.cut_off and kind != "once"
        if count < 1 or count > (RUNS_AWAY if taken else 1):
            yield f"{kind} {job} started {count} times"


def _counted(seen: Round) -> Iterator[str]:
    for line in seen.lines:
        # Elsewhere the crash stands until the node that was cut off is heard of again.
        if line.e == "begin" and line.crashes and not seen.cut_off:
            yield f"{line.kind} {line.id} counts {line.crashes} crashes"
    for job, crashes in seen.blamed.items():
        yield f"{seen.expected.get(job)} {job} counts {crashes} crashes of who lives"


def _locks(seen: Round) -> Iterator[str]:
    try:
        yield from overlaps(list(holds([x for x in seen.lines if x.e in ("lock", "unlock")], ())))
    except ValueError as error:  # One that held it has not let go of it.
        yield str(error)


def _crowd(seen: Round) -> Iterator[str]:
    steps = [(x.m, 1 if x.e == "begin" else -1) for x in seen.lines if x.kind == "few"]
    running = 0
    for at, step in sorted(steps):
        running += step
        if running > seen.places:
            yield f"{running} of kind few at once, {at / S:.3f} s"
            return


def _told(seen: Round) -> Iterator[str]:
    bad = {"worker.crashed", "worker.killed", "worker.hung", "scheduler.replaced"}
    if not seen.cut_off:
        bad |= {"job.dead", "job.orphaned", "job.fenced"}
    for name, count in Counter(event["event"] for event in seen.log).items():
        if name in bad:
            yield f"{name} x {count}"

"""Judges ticks by what is written outside the storage: the jobs' ledger and the daemons' logs.

A tick may run more than once (at least once is the promise), but only where its worker was killed
or frozen before its end was told.  A second run of a job whose end was told means that the tick was
enqueued twice, because this app keeps no results that would refuse it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tests.chaos.ledger import Fault, Line

PERIOD_MS = 1000
TOLD_NS = 5_000_000_000
"""An end is told, and a job that was leased begins, within milliseconds; only a hang, or a stalled
machine, takes so long."""


class Judgement(msgspec.Struct):
    counts: dict[str, int]
    broken: list[str]


def judge(
    runs: Sequence[Line],
    fired: Mapping[str, Sequence[int]],
    faults: Sequence[Fault],
    since: Mapping[str, int],
    until_ms: int,
) -> Judgement:
    """`fired`: name -> ticks that daemons said they fired; `since`: name -> its first tick."""
    by_tick: dict[str, list[Line]] = defaultdict(list)
    for line in runs:
        by_tick[line.id].append(line)
    broken: list[str] = []
    counts = Counter(ticks=0, runs=0, fired_said=0, run_again=0)
    for name, first in since.items():
        span = range(first, until_ms + 1, PERIOD_MS)
        counts["ticks"] += len(span)
        counts["fired_said"] += len(fired[name])
        broken += _fired_twice(name, fired[name])
        broken += [f"{name}@{ms}: not at a whole second" for ms in fired[name] if ms % PERIOD_MS]
        for ms in span:
            lines = by_tick[f"{name}@{ms}"]
            begun = [line for line in lines if line.e == "begin"]
            counts["runs"] += len(begun)
            counts["run_again"] += max(0, len(begun) - 1)
            broken += _of_one_tick(f"{name}@{ms}", lines, faults)
    return Judgement(dict(counts), broken)


def _fired_twice(name: str, ticks: Sequence[int]) -> Iterator[str]:
    for ms, times in Counter(ticks).items():
        if times > 1:
            yield f"{name}@{ms}: {times} daemons say that they fired it"


def _of_one_tick(tick: str, lines: Sequence[Line], faults: Sequence[Fault]) -> Iterator[str]:
    # In the order of their leases: a frozen worker begins what another one has ended since.
    begun = sorted((line for line in lines if line.e == "begin"), key=lambda line: line.token)
    ends = {line.token: line for line in lines if line.e == "end"}
    if not begun:
        yield f"{tick}: never ran"
    elif not ends:
        yield f"{tick}: never ended"
    for run in begun[:-1]:
        if not any(_excuses(fault, run, ends.get(run.token)) for fault in faults):
            yield f"{tick}: ran again after run {run.token} of {run.pid}, which nothing hit"


def _excuses(fault: Fault, run: Line, end: Line | None) -> bool:
    """Return whether the fault killed or froze this run's process while it had the lease."""
    killed = run.pid in fault.killed and fault.end > run.m
    frozen = run.pid in fault.frozen and fault.end > run.m - TOLD_NS
    return (killed or frozen) and (end is None or fault.begin < end.m + TOLD_NS)

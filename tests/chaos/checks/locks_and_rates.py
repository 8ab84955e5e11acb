"""What the ledgers of locks and rates show.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.chaos.ledger import Fault, Line

S = 1_000_000_000


class Hold(NamedTuple):
    name: str
    job: str
    begin: int
    end: int
    """When it was given back, or the first moment at which its process may have been dead."""
    released: bool


def holds(lines: Sequence[Line], faults: Sequence[Fault]) -> Iterator[Hold]:
    """Yield each time that a job had a lock.

    Raises ValueError for one that ended by nobody's hand.
    """
    deaths = defaultdict[int, list[Fault]](list)
    for fault in faults:
        for pid in fault.killed:
            deaths[pid].append(fault)
    ends = {(x.id, x.token, x.pid): x.m for x in lines if x.e == "unlock"}
    for line in lines:
        if line.e != "lock":
            continue
        end = ends.get((line.id, line.token, line.pid))
        if end is not None:
            yield Hold(line.name, line.id, line.m, end, True)
            continue
        death = next((fault for fault in deaths[line.pid] if fault.end >= line.m), None)
        if death is None:
            raise ValueError(f"{line.id} had {line.name} in {line.pid}, which nobody killed")
        yield Hold(line.name, line.id, line.m, max(line.m, death.begin), False)


def overlaps(found: Sequence[Hold]) -> Iterator[str]:
    """Yield where one lock had two holders at a time."""
    by_name = defaultdict[str, list[Hold]](list)
    for hold in found:
        by_name[hold.name].append(hold)
    for name, chain in by_name.items():
        chain.sort(key=lambda hold: hold.begin)
        before = chain[0]
        for hold in chain[1:]:
            if hold.begin < before.end:
                by_ms = (before.end - hold.begin) / 1e6
                yield f"{name}: {hold.job} beside {before.job} for {by_ms:.2f} ms"
            before = max(before, hold, key=lambda one: one.end)


def crowded(starts: Sequence[int], limit: int, period_ns: int) -> Iterator[str]:
    """Yield where more than `limit` starts lie in one window of the period, which slides."""
    ordered = sorted(starts)
    for first, beyond in zip(ordered, ordered[limit:], strict=False):
        if beyond - first < period_ns:
            yield f"{limit + 1} starts within {(beyond - first) / 1e6:.2f} ms"

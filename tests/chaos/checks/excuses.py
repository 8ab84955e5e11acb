"""What an injected fault excuses, and what it does not.  Pure.

An attempt that ended is *told* to the storage within `TELL_S`, unless the storage or its own
process was away; until it is told, the death of its process excuses that the job runs again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.chaos.ledger import Fault, Line, Rules

S = 1_000_000_000
TELL_S = 0.75
BACK_OFF_S = 3.0
"""After an outage a worker tries again within so long."""
RENEWED_EVERY = 0.2
"""A node renews its lease each time that this part of it has passed."""
OVERDUE_WITHIN_S = 10
"""A process that runs a job past its timeout has ended within so long."""
BREATH_S = 1.5
LEASED_S = 10
"""A job that came back is leased again within so long, on a machine that others load too."""
RECOVER_S = 3.0
"""A lease that ran out is recovered within so long after the outage."""


def jobs_of(jobs: Sequence[Line], kind: str) -> Iterator[Line]:
    return (line for line in jobs if line.e == "begin" and line.kind == kind)


def _overdue(line: Line) -> Fault:
    """A job past its timeout costs its worker, whose other jobs are interrupted."""
    end = line.m + OVERDUE_WITHIN_S * S
    return Fault(kind="overdue", begin=line.m, end=end, killed=[line.pid], drains=True)


class Excuses:
    def __init__(self, faults: Sequence[Fault], jobs: Sequence[Line], rules: Rules) -> None:
        self._rules = rules
        faults = [*faults, *map(_overdue, jobs_of(jobs, "overdue"))]
        self._faults = sorted(faults, key=lambda fault: fault.begin)
        self._deaths = defaultdict[int, list[tuple[int, int]]](list)
        """Pid -> (not before, not after) of each death: numbers are used again."""
        for fault in faults:
            for pid in fault.killed:
                self._deaths[pid].append((fault.begin, fault.end))
        for line in jobs:
            if line.e == "crash":
                self._deaths[line.pid].append((line.m, line.m + S))
        self._drains = defaultdict[int, list[Fault]](list)
        for fault in self._faults:
            for pid in {0, *fault.killed} if fault.drains else ():
                self._drains[pid].append(fault)
        self._forgetful = [fault for fault in self._faults if fault.forgets_s]
        self._silences = list(self._long_silences())
        self._outages = defaultdict[int, list[Fault]](list)
        for fault in self._faults:
            for pid in [0] if fault.storage else fault.frozen:
                self._outages[pid].append(fault)

    def died(self, pid: int, since: int, until: int) -> bool:
        """Return whether the process was killed between these times."""
        return any(last >= since and first <= until for first, last in self._deaths.get(pid, ()))

    def deaths(self, since: int, until: int) -> int:
        """Return how many processes were killed between these times."""
        return sum(self.died(pid, since, until) for pid in self._deaths)

    def nodes_lost(self, since: int, until: int) -> int:
        """Return how many daemons were killed whole then, with all that they had leased.

        What such a daemon held may have begun for all that anybody knows: it counts as a crash.
        """
        until += LEASED_S * S
        whole = (f for f in self._faults if f.killed and f.scheduler and f.drains)
        return sum(fault.begin <= until and fault.end >= since for fault in whole)

    def killed(self, pid: int) -> bool:
        return pid in self._deaths

    def told_by(self, pid: int, ended: int) -> int:
        """Return until when an attempt that ended then may be untold, if its process lives."""
        reach = ended + int(TELL_S * S)
        outages = [*self._outages[0], *self._outages[pid]]
        for fault in sorted(outages, key=lambda fault: fault.begin):
            if fault.end >= ended and fault.begin <= reach:
                reach = max(reach, fault.end + int(BACK_OFF_S * S))
        return reach

    def untold(self, begin: Line, ended: int) -> str:
        """Return what excuses that the end of an attempt did not count, "" for nothing."""
        reach = self.told_by(begin.pid, ended)
        if self.died(begin.pid, ended, reach):
            return "death"
        if self.expired(begin.m, reach):
            return "expiry"
        return "stop" if self.stops(begin.pid, begin.m, reach) else self.forgotten(ended)

    def expired(self, since: int, until: int) -> bool:
        """Return whether a node that others outlived may have been taken for dead then.

        An outage of the storage is no such time: nobody could renew, and nobody is taken for dead.
        """
        return self.silences(since, until) > 0

    def silences(self, since: int, until: int) -> int:
        """Return how often that was: each counts one crash, until the node speaks again."""
        late = int(RECOVER_S * S)
        return sum(begin <= until and end + late >= since for begin, end in self._silences)

    def _long_silences(self) -> Iterator[tuple[int, int]]:
        """Yield when a daemon could not renew its lease for long; a short breath does not help."""
        least = (1 - RENEWED_EVERY) * self._rules.lease_s * S
        begin = end = 0
        for fault in self._faults:
            if not fault.scheduler:
                continue
            if fault.begin > end + BREATH_S * S:
                if end - begin >= least:
                    yield begin, end
                begin = fault.begin
            end = max(end, fault.end)
        if end - begin >= least:
            yield begin, end

    def stops(self, pid: int, since: int, until: int) -> int:
        """Return how many stops may have interrupted an attempt of `pid` (0: any) then."""
        stops = self._drains.get(pid, ())
        return sum(f.begin <= until and f.end >= since for f in stops)

    def forgotten(self, confirmed: int) -> str:
        """Return "loss" if the storage may have lost what it confirmed then."""
        for fault in self._forgetful:
            if fault.begin - fault.forgets_s * S <= confirmed <= fault.end:
                return "loss"
        return ""

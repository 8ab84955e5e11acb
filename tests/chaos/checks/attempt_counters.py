"""Whether the counters of one attempt follow from the attempt before it.  Pure."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.checks.excuses import Excuses, S
from tests.chaos.ledger import Line

NEWS_S = 0.05
"""So long after a worker's death a server may hand it a job: it, and the proxy before it, hear of the
end when they next look at the connection.  The job then counts a crash that came before it."""


class Attempt(NamedTuple):
    begin: Line
    finish: Line | None
    """None: it neither returned nor raised."""


def miscounted(excuses: Excuses, was: Line, before: Attempt | None, now: Line) -> str:
    """Return what is wrong with the counters of `now`, "" if nothing is.

    `was`: the begin of `before`, or what stands for it.
    """
    failed, crashed = now.failures - was.failures, now.crashes - was.crashes
    stopped = now.interruptions - was.interruptions
    finish = before.finish if before else None
    raised = finish is not None and finish.e == "raise"
    silences = excuses.silences(was.m, now.m)
    if excuses.forgotten(finish.m if finish else was.m):
        return ""
    if failed > raised:
        return "a failure was counted, and nothing was raised"
    if raised and not failed and finish and before:
        return "" if excuses.untold(was, finish.m) else "a failure was not counted"
    stops = excuses.stops(was.pid, was.m, now.m) and excuses.stops(0, was.m, now.m)
    # A crash that was counted for a node's silence is an interruption once it speaks again.
    if stopped > stops + silences:
        return f"{stopped} interruptions more, {stops} stops"
    since = was.m - (0 if before else int(NEWS_S * S))
    if crashed > 0 and excuses.deaths(since, now.m) + silences < crashed:
        return f"{crashed} crashes more, and fewer processes died"
    dead = before is not None and finish is None and not stopped and not silences
    if dead and not crashed and excuses.killed(was.pid):
        return "a crash was not counted"
    return "a counter went back" if min(failed, stopped, crashed + silences) < 0 else ""

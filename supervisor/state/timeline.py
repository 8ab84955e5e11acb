"""The timeline of a stop: what happens when, within `grace_s`.  Pure.

     0            drain: no new job, unstarted ones handed back
     interrupt    stacks of the rest into the log, running jobs requeued by their workers
     take_back    what a silent worker holds is requeued by the scheduler
     term, kill   signals to what still runs
     retire       the scheduler is told to go, whatever is still unanswered
     end          the master exits

`interrupt` is 5 s before the end of the grace.  With a grace of 10 s or less it is at half of it,
so that jobs always have some time of their own.  The later steps share what is left.
"""

from __future__ import annotations

from typing import NamedTuple

TAIL_S = 5.0
LEAST_TAIL_S = 0.5
_PATIENCE = 0.6
_END = 0.92
"""The end of the tail leaves a little of the grace for the exit itself."""


class Timeline(NamedTuple):
    """Absolute times on the monotonic clock, in seconds, ascending."""

    begin_s: float
    interrupt_s: float
    recover_s: float
    term_s: float
    kill_s: float
    retire_s: float
    end_s: float


def drain_s(grace_s: float) -> float:
    """Return how long running jobs are left alone."""
    return max(0.0, min(max(grace_s * 0.5, grace_s - TAIL_S), grace_s - LEAST_TAIL_S))


def begin(now_s: float, grace_s: float) -> Timeline:
    interrupt_s = now_s + drain_s(grace_s)
    return _tail(now_s, interrupt_s, max(now_s + grace_s - interrupt_s, LEAST_TAIL_S))


def hasten(times: Timeline, now_s: float) -> Timeline:
    """Return the timeline whose drain ends now; unchanged if it is over already."""
    if times.interrupt_s <= now_s:
        return times
    return _tail(times.begin_s, now_s, (times.end_s - times.interrupt_s) / _END)


def cut(times: Timeline, now_s: float) -> Timeline:
    """Return the timeline that kills now; what is held is still given back."""
    tail_s = min(times.end_s - times.interrupt_s, TAIL_S)
    return Timeline(
        times.begin_s,
        min(times.interrupt_s, now_s),
        min(times.recover_s, now_s),
        min(times.term_s, now_s + 0.1 * tail_s),
        min(times.kill_s, now_s + 0.1 * tail_s),
        min(times.retire_s, now_s + 0.4 * tail_s),
        min(times.end_s, now_s + 0.6 * tail_s),
    )


def patience_s(times: Timeline, now_s: float) -> float:
    """Return how long interrupted jobs may take to end by themselves; the worker needs a rest."""
    return max(0.0, (times.recover_s - now_s) * _PATIENCE)


def _tail(begin_s: float, interrupt_s: float, tail_s: float) -> Timeline:
    def at(share: float) -> float:
        return interrupt_s + share * tail_s

    return Timeline(begin_s, interrupt_s, at(0.2), at(0.4), at(0.6), at(0.76), at(_END))

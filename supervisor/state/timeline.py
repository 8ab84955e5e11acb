"""The timeline of a stop: what happens when, within `grace_s`.  Pure.

     0            drain: no new job, unstarted ones released
     interrupt    stacks of the rest into the log, running jobs requeued by their workers
     recover      what a silent worker holds is recovered by the scheduler
     term, kill   signals to what still runs
     retire       the scheduler is told to go, whatever is still unanswered
     end          the master exits

`interrupt` is 5 s before the end of the grace.  With a grace of 10 s or less it is at half of it,
so that jobs always have some time of their own.  The later steps share what is left, the tail.
"""

from __future__ import annotations

from typing import NamedTuple

TAIL_S = 5.0
"""From the interrupt to the end of the grace: room for two round trips to a storage that is slow."""
LEAST_TAIL_S = 0.5
"""Even with no grace at all the steps come one after the other, and what is held is given back."""

RECOVER_SHARE = 0.2
"""Until then a worker may requeue its jobs itself, which it knows best; one second of five."""
TERM_SHARE = 0.4
"""The scheduler had as long to recover the jobs: a worker that is ended now costs no attempt."""
KILL_SHARE = 0.6
"""As long again for what a process does on SIGTERM: close its files, end its own children."""
RETIRE_SHARE = 0.76
"""The scheduler stays a while after the kill, for what the dead have left."""
END_SHARE = 0.92
"""The scheduler and the zygotes exit in what is left before; behind it the master does, which must
be gone before whoever waits for it kills at the end of the grace."""
PATIENCE_SHARE = 0.6
"""Of the time until `recover`: the rest is the worker's, to write what its jobs came to."""

CUT_KILL_SHARE = 0.1
"""Told to kill now: a moment for the interrupt that was sent just before."""
CUT_RETIRE_SHARE = 0.4
"""As long as usual from kill to retire, and a little more: more workers die at once."""
CUT_END_SHARE = 0.6


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
    """Return the timeline of a stop that begins now."""
    interrupt_s = now_s + drain_s(grace_s)
    return _tail(now_s, interrupt_s, max(now_s + grace_s - interrupt_s, LEAST_TAIL_S))


def hasten(times: Timeline, now_s: float) -> Timeline:
    """Return the timeline whose drain ends now; unchanged if it is over already."""
    if times.interrupt_s <= now_s:
        return times
    return _tail(times.begin_s, now_s, (times.end_s - times.interrupt_s) / END_SHARE)


def cut(times: Timeline, now_s: float) -> Timeline:
    """Return the timeline that kills now; what is held is still given back."""
    tail_s = min(times.end_s - times.interrupt_s, TAIL_S)
    kill_s = now_s + CUT_KILL_SHARE * tail_s
    return Timeline(
        begin_s=times.begin_s,
        interrupt_s=min(times.interrupt_s, now_s),
        recover_s=min(times.recover_s, now_s),
        term_s=min(times.term_s, kill_s),
        kill_s=min(times.kill_s, kill_s),
        retire_s=min(times.retire_s, now_s + CUT_RETIRE_SHARE * tail_s),
        end_s=min(times.end_s, now_s + CUT_END_SHARE * tail_s),
    )


def patience_s(times: Timeline, now_s: float) -> float:
    """Return how long interrupted jobs may take to end by themselves; the worker needs a rest."""
    return max(0.0, (times.recover_s - now_s) * PATIENCE_SHARE)


def _tail(begin_s: float, interrupt_s: float, tail_s: float) -> Timeline:
    """Return the timeline whose later steps share `tail_s` from the interrupt on."""
    return Timeline(
        begin_s=begin_s,
        interrupt_s=interrupt_s,
        recover_s=interrupt_s + RECOVER_SHARE * tail_s,
        term_s=interrupt_s + TERM_SHARE * tail_s,
        kill_s=interrupt_s + KILL_SHARE * tail_s,
        retire_s=interrupt_s + RETIRE_SHARE * tail_s,
        end_s=interrupt_s + END_SHARE * tail_s,
    )

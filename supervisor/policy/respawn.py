"""Decides when the post of a dead child is filled again.  Pure.

A child that has proven itself is replaced at once, however often that happens: its jobs wait, and a
job that kills its workers is bounded by its own budget.  One that has not is a failure; the first
after it served is answered at once too, each further one waits longer, with full jitter, so that a
crash loop costs little and many daemons do not beat in step.
"""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 30.0
PROVEN_S = 5.0
"""A child that served for so long, or has finished a job, has shown that it can."""


def proven(jobs: int, served_s: float | None) -> bool:
    """Return whether a child has proven itself; `served_s` is None if it was never ready."""
    return jobs > 0 or (served_s is not None and served_s >= PROVEN_S)


def failures_after(failures: int, *, proven: bool) -> int:
    """Return the count of failures in a row, after one more death."""
    return 0 if proven else failures + 1


def delay_s(failures: int, chance: float, *, served: bool) -> float:
    """Return how long to wait; `chance` is uniform in 0..1, `failures` counts this death too."""
    if served and failures <= 1:
        return 0.0
    ceiling = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 16))
    return max(FIRST_S, ceiling * chance) if not served else ceiling * chance

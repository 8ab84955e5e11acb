"""When a dead child's place is filled again.  Pure.

The first crash of a child that served is answered at once: its jobs wait.  Each further one waits
longer, with full jitter, so that a crash loop costs little and many daemons do not beat in step.
"""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 30.0
HEALTHY_S = 60.0
"""A child that served for so long has shown that it can: its past failures are forgotten."""


def failures_after(failures: int, *, served_s: float | None) -> int:
    """Return the count of failures in a row, after one more death.

    `served_s`: for how long the child was ready, None if it never was.
    """
    if served_s is not None and served_s >= HEALTHY_S:
        return 1
    return failures + 1


def delay_s(failures: int, chance: float, *, served: bool) -> float:
    """Return how long to wait; `chance` is uniform in 0..1, `failures` counts this death too."""
    if served and failures <= 1:
        return 0.0
    ceiling = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 16))
    return max(FIRST_S, ceiling * chance) if not served else ceiling * chance

"""Time as node leases need it on one host.

A lease expires by the monotonic clock, so that no jump of the wall clock can end or prolong it,
and time in which the machine sleeps does not count.  Only processes of one boot (and one time
namespace) share that clock; a lease given under another one expires by the wall clock.
"""

from __future__ import annotations

import functools
import os

from taskqd.clock import monotonic_ns


def monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000


@functools.cache
def clock_name() -> str:
    """Return a text that is the same for all processes whose `monotonic_ms` can be compared."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/time')}"
    except OSError:
        # Without /proc nothing is comparable but this process; the wall clock decides.
        return f"process-{os.getpid()}-{monotonic_ns()}"

"""The two clocks: wall time for what is stored, monotonic time for what is waited for."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return Unix time in whole milliseconds."""
    return time.time_ns() // 1_000_000


monotonic_s = time.monotonic
monotonic_ns = time.monotonic_ns

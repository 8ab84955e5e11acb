"""$BENCH_PERIODIC periodic tasks, each ticking once a minute, spread evenly over the minute."""

from __future__ import annotations

import os
import time

from benchmarks import meter
from taskqd import App, current_job

app = App("bench")
_COUNT = int(os.environ.get("BENCH_PERIODIC", "0"))


class Spread:
    """A rule: once a minute, at an offset of its own."""

    def __init__(self, offset_ms: int) -> None:
        self._offset_ms = offset_ms

    def next_after(self, ms: int, zone: object = None) -> int:
        return ((ms - self._offset_ms) // 60_000 + 1) * 60_000 + self._offset_ms


def _note() -> None:
    tick = current_job().scheduled_at
    meter.count(max(0, time.time_ns() - int(tick.timestamp() * 1e9)))


for _number in range(_COUNT):
    app.periodic_task(
        Spread(_number * 60_000 // _COUNT), name=f"tick-{_number}", store_result=False
    )(_note)

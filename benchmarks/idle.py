"""A daemon with nothing to do: what it costs to keep it, and how soon it starts a job that comes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from . import observe
from .drain import storage_url
from .meter import Meter
from .side import environment, taskqd_side
from .table import markdown


def run(storage: str, workers: int, worker_type: str, seconds: float) -> str:
    """Return the Markdown report."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, server),
    ):
        place = Path(folder, "meter")
        Meter(place)
        env = environment(url, place)
        side = taskqd_side(worker_type)
        with side.workers(workers, env, Path(folder, "daemon.log")) as pid:
            found = {
                key: sorted(values) for key, values in side.produce(env, "latency", 300).items()
            }
            time.sleep(2)
            before, woken = observe.snapshot(pid, server), observe.wake_ups(pid)
            time.sleep(seconds)
            cost = observe.spent(before, observe.snapshot(pid, server))
            woken = observe.wake_ups(pid) - woken
            rss = observe.rss_bytes(pid)
            processes = observe.tree(pid)
            pss = [(process.cmdline()[0], observe.pss_bytes([process])) for process in processes]
    rows = [
        ["enqueue to start, us (p50)", f"{found['start_us'][150]:,.0f}"],
        ["enqueue to start, us (p99)", f"{found['start_us'][297]:,.0f}"],
        ["enqueue to result, us (p50)", f"{found['done_us'][150]:,.0f}"],
        ["enqueue to result, us (p99)", f"{found['done_us'][297]:,.0f}"],
        ["CPU of all processes, % of one core", f"{cost.workers / seconds * 100:.2f}"],
        ["CPU of the server, %", f"{cost.server / seconds * 100:.2f}"],
        ["wake-ups of the master, per second", f"{woken / seconds:.1f}"],
        ["memory (RSS) of the master, MB", f"{rss / 1e6:.1f}"],
        ["memory (PSS) of all processes, MB", f"{sum(size for _, size in pss) / 1e6:.1f}"],
        *([f"of which {name}, MB", f"{size / 1e6:.1f}"] for name, size in pss),
    ]
    title = (
        f"{workers} idle {worker_type} workers on {storage}, {seconds:g} s, {os.cpu_count()} cores"
    )
    return f"{title}\n\n{markdown(['', 'value'], rows)}"

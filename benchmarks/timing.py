"""The clock of a drain: jobs wait, workers start, and the time runs from when all of them work."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.support.servers.redis_server import RedisServer

from . import observe
from .contender import Contender
from .meter import Meter
from .versus import Numbers

BOOT_S = 60.0
DRAIN_S = 180.0
SETTLE_S = 0.5
WARM_SHARE = 0.05
"""Measured from when all processes have run a job, and this share of the jobs is done."""


def timed(
    contender: Contender,
    env: Mapping[str, str],
    meter: Meter,
    jobs: int,
    server: RedisServer | None = None,
) -> Numbers:
    """Start the workers, and measure the drain of `jobs` jobs that wait."""
    log = meter.folder.with_suffix(".log")
    with contender.workers(env, log) as running:
        pids = [process.pid for process in running]
        name = contender.label
        observe.wait_for(
            f"{name}: workers", lambda: _is_warm(meter, contender.processes, jobs), BOOT_S
        )
        before, began_ns, first = observe.snapshot(pids, server), time.monotonic_ns(), meter.read()
        observe.wait_for(f"{name}: all jobs", lambda: meter.read().jobs >= jobs, DRAIN_S)
        reading = meter.read()
        took_s = max(1, reading.last_ns - began_ns) / 1e9
        noise = observe.foreign_share(
            observe.spent(before, observe.snapshot(pids, server)),
            (time.monotonic_ns() - began_ns) / 1e9,
        )
        time.sleep(SETTLE_S)
        cost = observe.spent(before, observe.snapshot(pids, server))
    if reading.jobs != jobs:
        raise RuntimeError(f"{name}: {reading.jobs} jobs ran, {jobs} were enqueued")
    measured = jobs - first.jobs
    return {
        "jobs_s": measured / took_s,
        "worker_cpu_us": cost.workers / measured * 1e6,
        "server_cpu_us": cost.server / measured * 1e6,
        "cpu_s_per_1000": (cost.workers + cost.server) / measured * 1000,
        "worked_share": (reading.worked_ns - first.worked_ns) / 1e9 / took_s,
        "foreign": noise,
    }


def _is_warm(meter: Meter, processes: int, jobs: int) -> bool:
    reading = meter.read()
    all_work = reading.processes >= processes and reading.jobs >= jobs * WARM_SHARE
    return all_work or reading.jobs >= jobs * 0.5

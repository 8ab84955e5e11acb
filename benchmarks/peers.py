"""Every queue of the catalogue, side by side on one private server, in interleaved rounds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers.redis_server import RedisServer

from . import observe
from .contender import Contender
from .meter import Meter
from .side import environment
from .timing import timed
from .versus import Numbers, median_of, used_memory

TRIPS = 300
BULK_JOBS = 5_000
IDLE_S = 4.0


def compare(
    contenders: Sequence[Contender], *, rounds: int, calm_s: float
) -> tuple[str, dict[str, Numbers]]:
    """Return the server's name and the medians by label.

    `calm_s`: wait so long at most before each measurement until others leave the machine alone.
    """
    found: dict[str, list[Numbers]] = {contender.label: [] for contender in contenders}
    for contender in contenders:
        contender.install()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        for number in range(rounds):
            for contender in contenders:
                place = Path(folder, f"{contender.label}-{number}".replace(" ", ""))
                observe.wait_for_calm(calm_s)
                began = time.monotonic()
                try:
                    numbers = _round(contender, server, place, contender.jobs)
                except (TimeoutError, subprocess.SubprocessError) as error:
                    print(f"{contender.label}: not measured: {error}", file=sys.stderr, flush=True)
                    continue
                found[contender.label].append(numbers)
                _progress(number, contender, numbers, time.monotonic() - began)
        info = observe.server_client(server).info("server")
    medians = {label: median_of(numbers) for label, numbers in found.items()}
    return f"{Path(server.binary).stem} {info['redis_version']}", medians


def _progress(number: int, contender: Contender, numbers: Numbers, took_s: float) -> None:
    rate, noise = numbers["jobs_s"], numbers["foreign"]
    text = f"round {number + 1}: {contender.label}: {rate:,.0f} jobs/s ({took_s:.0f} s, noise {noise:.0%})"
    print(text, file=sys.stderr, flush=True)


def _round(contender: Contender, server: RedisServer, place: Path, jobs: int) -> Numbers:
    client = observe.server_client(server)
    client.flushall()
    numbers = drain(contender, server, place / "drain", jobs)
    client.flushall()
    return numbers | calm(contender, server, place / "calm")


def drain(contender: Contender, server: RedisServer, place: Path, jobs: int) -> Numbers:
    """Enqueue, then start the workers and time them from when all of them work."""
    meter = Meter(place)
    env = environment(server.url, place)
    memory = used_memory(server)
    one_by_one = min(jobs, 20_000)
    numbers: Numbers = dict(contender.producer().produce(env, "enqueue", one_by_one))
    numbers["queued_bytes"] = (used_memory(server) - memory) / one_by_one
    if jobs > one_by_one:
        contender.producer().produce(env, "bulk", jobs - one_by_one - 1)
    numbers |= timed(contender, env, meter, jobs, server)
    return numbers | {"kept_bytes": (used_memory(server) - memory) / jobs}


def calm(contender: Contender, server: RedisServer, place: Path) -> Numbers:
    """Idle workers: round trips one after the other, what idling costs, and a bulk of jobs."""
    Meter(place)
    env = environment(server.url, place, BENCH_NOTIFY="1")
    producer = contender.producer()
    numbers: Numbers = {}
    with contender.workers(env, place.with_suffix(".log")) as running:
        pids = [process.pid for process in running]
        trips = producer.produce(env, "latency", TRIPS)
        time.sleep(1)
        before = observe.snapshot(pids, server)
        time.sleep(IDLE_S)
        cost = observe.spent(before, observe.snapshot(pids, server))
        processes = observe.tree(*pids)
        numbers["idle_pss_bytes"] = observe.pss_bytes(processes)
        numbers["idle_processes"] = len(processes)
        numbers["idle_cpu_percent"] = cost.workers / IDLE_S * 100
    numbers |= producer.produce(env, "bulk", BULK_JOBS)
    for key, values in trips.items():
        cuts = statistics.quantiles(values, n=100)
        numbers |= {f"{key}_p50": cuts[49], f"{key}_p99": cuts[98]}
    return numbers

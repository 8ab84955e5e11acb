"""Side by side on one private server, in interleaved rounds."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.support.servers.redis_server import RedisServer

from . import observe, table
from .meter import Meter
from .side import Side, environment

Numbers = dict[str, float]


def compare(sides: list[Side], *, jobs: int, rounds: int, idle_s: float) -> str:
    """Return the Markdown report; the first side is what the others are compared with."""
    found: dict[str, list[Numbers]] = {side.name: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        client = observe.server_client(server)
        for number in range(rounds):
            for side in sides:
                client.flushall()
                place = Path(folder, f"{side.name}-{number}")
                numbers = drain(side, server, place / "drain", jobs)
                client.flushall()
                numbers |= latency(side, server, place / "latency")
                found[side.name].append(numbers)
        for side in sides:
            client.flushall()
            found[side.name].append(idle(side, server, Path(folder, side.name, "idle"), idle_s))
        version = client.info("server")["redis_version"]
    medians = {name: median_of(rows) for name, rows in found.items()}
    title = (
        f"{jobs} no-op jobs, results stored, 2 process workers, server {version}, {rounds} rounds"
    )
    return table.versus(title, [(side, medians[side.name]) for side in sides])


def median_of(rows: list[Numbers]) -> Numbers:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: statistics.median(row[key] for row in rows if key in row) for key in keys}


def drain(side: Side, server: RedisServer, place: Path, jobs: int, workers: int = 2) -> Numbers:
    """Enqueue behind a gate, let all workers reach it, open it, and time what follows."""
    meter = Meter(place)
    env = environment(server.url, place)
    memory = used_memory(server)
    numbers: Numbers = dict(side.produce(env, "enqueue", jobs, workers))
    numbers["queued_bytes"] = (used_memory(server) - memory) / jobs
    with side.workers(workers, env, place.with_suffix(".log")) as pid:
        observe.wait_for("workers at the gate", lambda: meter.at_gate() >= workers, 60)
        before = observe.snapshot(pid, server)
        began = time.monotonic()
        meter.open_gate()
        observe.wait_for("all jobs", lambda: meter.read().jobs >= jobs, 300)
        took_s = time.monotonic() - began
        noise = observe.foreign_share(observe.spent(before, observe.snapshot(pid, server)), took_s)
        settled(side, env)
        cost = observe.spent(before, observe.snapshot(pid, server))
    reading = meter.read()
    numbers["jobs_s"] = (reading.jobs - 1) / ((reading.last_ns - reading.first_ns) / 1e9)
    numbers["worker_cpu_us"] = cost.workers / jobs * 1e6
    numbers["server_cpu_us"] = cost.server / jobs * 1e6
    numbers["kept_bytes"] = (used_memory(server) - memory) / jobs
    numbers["foreign"] = noise
    if reading.jobs != jobs:
        raise RuntimeError(f"{side.name}: {reading.jobs} jobs ran, {jobs} were enqueued")
    return numbers


def settled(side: Side, env: dict[str, str]) -> None:
    observe.wait_for(
        "settlement", lambda: side.produce(env, "left")["waiting"] == 0, 30, every_s=0.1
    )


def latency(side: Side, server: RedisServer, place: Path) -> Numbers:
    """Sequential round trips against idle workers."""
    Meter(place)
    env = environment(server.url, place, BENCH_NOTIFY="1")
    numbers: Numbers = {}
    with side.workers(2, env, place.with_suffix(".log")):
        found = side.produce(env, "latency", 300)
        numbers |= side.produce(env, "bulk", 20_000)
    for key, values in found.items():
        ordered = sorted(values)
        numbers[f"{key}_p50"] = ordered[len(ordered) // 2]
        numbers[f"{key}_p99"] = ordered[int(len(ordered) * 0.99)]
    return numbers


def idle(side: Side, server: RedisServer, place: Path, seconds: float) -> Numbers:
    """Eight workers with nothing to do."""
    Meter(place)
    env = environment(server.url, place)
    with side.workers(8, env, place.with_suffix(".log")) as pid:
        side.produce(env, "latency", 20)
        time.sleep(2)
        before = observe.snapshot(pid, server)
        time.sleep(seconds)
        cost = observe.spent(before, observe.snapshot(pid, server))
        processes = observe.tree(pid)
        pss = observe.pss_bytes(processes)
    return {
        "idle_pss_bytes": pss,
        "idle_processes": len(processes),
        "idle_cpu_percent": cost.workers / seconds * 100,
        "idle_server_percent": cost.server / seconds * 100,
    }


def used_memory(server: RedisServer) -> int:
    used: int = observe.server_client(server).info("memory")["used_memory"]
    return used

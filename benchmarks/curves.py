"""Drains by number of workers, size of payload and number of queues; and 10,000 periodic tasks."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.servers.redis_server import RedisServer

from . import catalogue, observe
from .contender import Contender
from .meter import Meter
from .side import ROOT, environment
from .table import markdown
from .timing import timed
from .versus import Numbers

WORKERS = (1, 2, 4, 8)
PAYLOAD_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000)
QUEUES = (1, 10, 100)
PERIODIC_TASKS = 10_000
PERIODIC_START_S, PERIODIC_S = 15.0, 30.0
JOBS = 100_000
PAYLOAD_TOTAL_BYTES = 200_000_000


def run(calm_s: float) -> str:
    """Return the Markdown report."""
    return "\n\n".join(part(calm_s) for part in (_workers, _payloads, _queues, _periodic))


def _taskqd(processes: int, jobs: int, *options: str) -> Contender:
    made = catalogue.taskqd(jobs=jobs)
    at = made.command.index("--workers") + 1
    command = (*made.command[:at], str(processes), *made.command[at + 1 :], *options)
    return made._replace(command=command, processes=processes)


def _drain(contender: Contender, calm_s: float, *produce: object) -> Numbers:
    observe.wait_for_calm(calm_s)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        meter = Meter(Path(folder, "meter"))
        env = environment(server.url, meter.folder)
        contender.producer().produce(env, *produce)
        return timed(contender, env, meter, contender.jobs, server)


def _table(name: str, cases: dict[str, Numbers], more: Callable[[str], str] | None = None) -> str:
    head = [name, "jobs/s", "workers' CPU, us/job", "server CPU, us/job", "noise"]
    rows = [
        [
            label,
            f"{n['jobs_s']:,.0f}",
            f"{n['worker_cpu_us']:.1f}",
            f"{n['server_cpu_us']:.1f}",
            f"{n['foreign']:.0%}",
        ]
        for label, n in cases.items()
    ]
    return markdown(head, rows)


def _workers(calm_s: float) -> str:
    cases = {str(count): _drain(_taskqd(count, JOBS), calm_s, "many", JOBS) for count in WORKERS}
    return _table("workers", cases)


def _payloads(calm_s: float) -> str:
    cases = {}
    for size in PAYLOAD_BYTES:
        jobs = max(500, min(JOBS, PAYLOAD_TOTAL_BYTES // size))
        cases[f"{size:,} bytes"] = _drain(_taskqd(2, jobs), calm_s, "sized", jobs, size)
    return _table("payload", cases)


def _queues(calm_s: float) -> str:
    cases = {}
    for count in QUEUES:
        names = ",".join(f"q{number}" for number in range(count))
        contender = _taskqd(2, JOBS, "--queues", names)
        cases[str(count)] = _drain(contender, calm_s, "spread", JOBS, count)
    return _table("queues", cases)


def _periodic(calm_s: float) -> str:
    """Measure the scheduler with many periodic tasks, each of which ticks once a minute."""
    observe.wait_for_calm(calm_s)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        meter = Meter(Path(folder, "meter"))
        env = environment(server.url, meter.folder, BENCH_PERIODIC=str(PERIODIC_TASKS))
        app = "benchmarks.sides.periodic_app:app"
        contender = _taskqd(2, 1)
        command = tuple(app if word.endswith("_app:app") else word for word in contender.command)
        with contender._replace(command=command).workers(env, meter.folder / "log") as running:
            observe.wait_for("ticks", lambda: meter.read().jobs > 0, 90)
            # At its start the scheduler asks the storage for the last tick of each task.
            time.sleep(PERIODIC_START_S)
            pid = running[0].pid
            scheduler = _named(pid, "scheduler")
            began, first, before = time.monotonic(), meter.read(), observe.cpu_s([scheduler])
            time.sleep(PERIODIC_S)
            took_s, last = time.monotonic() - began, meter.read()
            cpu = (observe.cpu_s([scheduler]) - before) / took_s
            rss = scheduler.memory_info().rss
    jobs = max(1, last.jobs - first.jobs)
    late_ms = (last.worked_ns - first.worked_ns) / 1e6 / jobs
    head = [
        "periodic tasks",
        "ticks/s",
        "CPU of the scheduler",
        "its RSS, MB",
        "start after the tick, ms",
    ]
    row = [f"{PERIODIC_TASKS:,}", f"{jobs / took_s:.0f}", f"{cpu:.1%}", f"{rss / 1e6:.0f}"]
    return markdown(head, [[*row, f"{late_ms:.1f}"]])


def _named(pid: int, word: str) -> psutil.Process:
    for process in observe.tree(pid):
        if word in " ".join(process.cmdline()):
            return process
    raise RuntimeError(f"no process of {pid} is titled {word!r}; {os.fspath(ROOT)}")

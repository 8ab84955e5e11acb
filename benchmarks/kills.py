"""Throughput under kills: while jobs drain, a process that runs jobs gets SIGKILL each second.

What a peer's own supervisor does not start again is started again here, at once.  Jobs write their
number down outside of any storage; a job that has not run when nothing has moved for a while is
missing: lost, or held back for longer than anybody waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.servers.redis_server import RedisServer

from . import catalogue, observe
from .contender import Contender
from .meter import METER_ENV, Meter
from .side import environment
from .table import markdown

KILL_EVERY_S = 1.0
STANDSTILL_S = 15.0
DRAIN_S = 240.0
OURS, OTHERS = 600_000, 20_000


class Outcome(NamedTuple):
    jobs: int
    jobs_s: float
    """While kills went on."""
    kills: int
    restarts: int
    """Of the whole command, by us."""
    missing: int
    twice: int


def run(calm_s: float, only: Sequence[str] = (), divide: int = 1) -> str:
    """Return the Markdown report."""
    head = [
        "",
        "jobs",
        "kills",
        "jobs/s under kills",
        "missing at the end",
        "run twice",
        "restarted by us",
    ]
    rows = []
    for contender in catalogue.everyone():
        if only and not any(part.lower() in contender.label.lower() for part in only):
            continue
        contender.install()
        observe.wait_for_calm(calm_s)
        jobs = (OURS if not contender.distributions else OTHERS) // divide
        found = measure(contender, jobs)
        print(f"{contender.label}: {found}", file=sys.stderr, flush=True)
        rows.append(
            [
                contender.label,
                f"{found.jobs:,}",
                str(found.kills),
                f"{found.jobs_s:,.0f}",
                f"{found.missing:,}",
                f"{found.twice:,}",
                str(found.restarts),
            ]
        )
    return markdown(head, rows)


def measure(contender: Contender, jobs: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, RedisServer() as server:
        meter = Meter(Path(folder, "meter"))
        env = environment(server.url, meter.folder)
        contender.producer().produce(env, "marks", jobs)
        log = meter.folder.with_suffix(".log")
        # Workers of peers survive their killed parents, and would not be stopped with them.
        with _nobody_left(meter.folder), contender.workers(env, log) as running:
            observe.wait_for("the first jobs", lambda: _ran(meter) > jobs // 100, 60)
            began, first = time.monotonic(), _ran(meter)
            last, moved, kills, restarts = first, began, 0, 0
            next_kill = began
            while last < jobs and time.monotonic() - began < DRAIN_S:
                restarts += _start_again(contender, running, env, log)
                if time.monotonic() >= next_kill:
                    kills += _kill_one(meter, kills)
                    next_kill += KILL_EVERY_S
                time.sleep(0.02)
                now = _ran(meter)
                if now > last:
                    last, moved = now, time.monotonic()
                elif time.monotonic() - moved > STANDSTILL_S:
                    break
            took_s = max(0.001, moved - began)
            # Duplicates may fill the count before the last job has run.
            with contextlib.suppress(TimeoutError):
                observe.wait_for("the rest", lambda: _distinct(meter) >= jobs, STANDSTILL_S, 0.5)
        marks = meter.marks()
        distinct = len(set(marks))
    return Outcome(
        jobs, (last - first) / took_s, kills, restarts, jobs - distinct, len(marks) - distinct
    )


def _ran(meter: Meter) -> int:
    return sum(file.stat().st_size for file in meter.folder.glob("marks-*")) // 4


def _distinct(meter: Meter) -> int:
    return len(set(meter.marks()))


def _kill_one(meter: Meter, number: int) -> int:
    """Kill one of the living processes that run jobs; return how many."""
    living = sorted(pid for pid in meter.pids() if _is_alive(pid))
    if not living:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(living[number % len(living)], signal.SIGKILL)
        return 1
    return 0


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _start_again(
    contender: Contender, running: list[subprocess.Popen[bytes]], env: dict[str, str], log: Path
) -> int:
    ended = [copy for copy, process in enumerate(running) if process.poll() is not None]
    for copy in ended:
        running[copy] = contender.start(copy, env, log)
    return len(ended)


@contextlib.contextmanager
def _nobody_left(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                ours = f"{METER_ENV}={folder}".encode() in (entry / "environ").read_bytes()
                if ours and int(entry.name) != os.getpid():
                    os.kill(int(entry.name), signal.SIGKILL)

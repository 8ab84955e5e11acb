"""What is seen from outside: CPU and memory of process trees, CPU of the server and of strangers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import redis

from tests.support.servers.redis_server import RedisServer

CALM_PERCENT = 12.0


class Cpu(NamedTuple):
    """CPU seconds so far."""

    workers: float
    server: float
    self: float
    machine: float


def tree(*pids: int) -> list[psutil.Process]:
    """Return the processes of these roots and all below them."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
    return found


def cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pss_bytes(processes: list[psutil.Process]) -> int:
    """Return the proportional set size: shared pages are counted once over all."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def wake_ups(pid: int) -> int:
    """Return how often the process has gone to sleep and was woken, so far."""
    return psutil.Process(pid).num_ctx_switches().voluntary


def rss_bytes(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def server_client(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def snapshot(pid: int | Sequence[int], server: RedisServer | None) -> Cpu:
    machine = psutil.cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0.0)
    server_pid = server.process.pid if server is not None and server.process else None
    return Cpu(
        cpu_s(tree(*([pid] if isinstance(pid, int) else pid))),
        cpu_s([psutil.Process(server_pid)]) if server_pid else 0.0,
        cpu_s([psutil.Process(os.getpid())]),
        sum(machine[:8]) - idle,
    )


def spent(before: Cpu, after: Cpu) -> Cpu:
    return Cpu(*(b - a for a, b in zip(before, after, strict=True)))


def foreign_share(cost: Cpu, seconds: float) -> float:
    """Return the share of the machine that others used meanwhile: the noise of a measurement."""
    others = cost.machine - cost.workers - cost.server - cost.self
    return max(0.0, others / (seconds * (os.cpu_count() or 1)))


def wait_for_calm(timeout_s: float) -> None:
    """Return when others leave the machine alone, at the latest after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if psutil.cpu_percent(0.5) < CALM_PERCENT:
            return


def wait_for(what: str, done: Callable[[], bool], timeout_s: float, every_s: float = 0.002) -> None:
    """Raises TimeoutError that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)

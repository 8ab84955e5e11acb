"""Contention under kills: locks, a rate, and what is left behind.

    python -m tests.chaos.contention locks --storage redis --count 20000
    python -m tests.chaos.contention rate --storage redis --seconds 60
    python -m tests.chaos.contention leaks --storage redis --count 10000

Several daemons run the jobs of `contention_workload.py`; processes of theirs are killed all the time.  What the
jobs write down outside of the storage is judged by `locks_and_rates.py`, what the storage still holds
by `leftovers.py`.  Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from taskqd import App
from taskqd.errors import StorageError
from tests.chaos.apps import contention_workload
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.chaos import end_by_signal
from tests.chaos.checks.leftovers import remains
from tests.chaos.checks.locks_and_rates import S, crowded, holds, overlaps
from tests.chaos.faults.operation import send
from tests.chaos.ledger import FAULTS, JOBS, Fault, Ledger, read_faults, read_lines
from tests.chaos.world import Broke, all_dead, wait_for
from tests.support.rigs.daemon import Daemon
from tests.support.servers.redis_server import RedisServer, available_servers

DRAIN_S = 180.0
"""Without any progress for so long, the run has failed."""
DEAD_S = 60.0
READY_S = 120.0
ROLES = ("worker",) * 12 + ("scheduler", "master", "tree")
LOCKS = 40


class Result(NamedTuple):
    counts: dict[str, int]
    wrong: list[str]


class Arena:
    """Daemons on one storage, whose processes are killed every `pause_s` while the block runs."""

    def __init__(self, folder: Path, storage: str, seed: int, *, daemons: int, pause_s: float):
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dice = random.Random(seed)
        self._pause_s = pause_s
        self._book = Ledger(folder / FAULTS)
        self._server: RedisServer | None = None
        self.url = f"sqlite:///{self.folder}/arena.db"
        if storage != "sqlite":
            binary = available_servers().get(storage)
            if binary is None:
                raise Broke(f"no {storage} server on this machine")
            self._server = RedisServer(binary, self.folder / "server", appendfsync="everysec")
            self.url = self._server.start().url
        contention_workload.app.close()
        contention_workload.app._url = self.url
        self.app: App = contention_workload.app
        self._daemons = [self._daemon(number) for number in range(daemons)]
        self._over = threading.Event()
        self._killer = threading.Thread(target=self._kill_on)
        self._failed: list[str] = []

    def _daemon(self, number: int) -> Daemon:
        folder = self.folder / f"daemon{number}"
        argv = [
            sys.executable,
            "-m",
            "taskqd",
            "tests.chaos.apps.contention_workload:app",
            "--workers",
            "3",
        ]
        argv += ["--name", f"d{number}", "--grace", "6", "--health", "off", "--log-format", "json"]
        env = {
            "TASKQD_STORAGE": self.url,
            "TASKQD_STORAGE__NODE_LEASE_S": "5",
            "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
            LEDGER_ENV: str(self.folder / JOBS),
        }
        return Daemon(folder, argv, env=env)

    def __enter__(self) -> Arena:
        for daemon in self._daemons:
            daemon.start()
        for daemon in self._daemons:
            daemon.wait("worker.ready", timeout_s=READY_S)
        self._killer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_killing()
        for daemon in self._daemons:
            for process in daemon.alive():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if daemon.process:
                daemon.process.wait()
        self.app.close()
        if self._server:
            self._server.stop()

    # -- kills ---------------------------------------------------------------------------------

    def _kill_on(self) -> None:
        dice = random.Random(self.dice.random())
        try:
            self._kill(self._daemons[0], "worker")
            while not self._over.wait(self._pause_s * dice.uniform(0.5, 1.5)):
                self._kill(dice.choice(self._daemons), dice.choice(ROLES))
        except Exception as error:
            self._failed.append(f"the nemesis ended: {error!r}")

    def _kill(self, daemon: Daemon, role: str) -> None:
        fault = Fault(kind=role, begin=0, end=0)
        living = {process.pid: _title(process) for process in daemon.alive()}
        if role == "tree":
            fault.killed = list(living)
        elif role == "master":
            fault.killed = [daemon.pid]
        else:
            of_role = [pid for pid, title in living.items() if title.startswith(f"taskqd: {role}")]
            fault.killed = random.sample(of_role, min(1, len(of_role)))
        fault.begin = time.monotonic_ns()
        for pid in fault.killed:
            send(pid, "SIGKILL")
        if role in ("tree", "master") and daemon.process:
            daemon.process.wait(DEAD_S)
        wait_for(lambda: all_dead(fault.killed), f"{role} dies", DEAD_S)
        fault.end = time.monotonic_ns()
        self._book.append(fault)
        if role in ("tree", "master"):
            daemon.start()

    def stop_killing(self) -> None:
        self._over.set()
        if self._killer.is_alive():
            self._killer.join()

    # -- jobs ----------------------------------------------------------------------------------

    def left(self) -> int:
        rows = self.app.storage.queues()
        return sum(row.queued + row.scheduled + row.running for row in rows)

    def drain(self) -> None:
        """Wait until nothing is left to do.  Raises Broke without progress."""
        least, since_s = self.left(), time.monotonic()
        while left := self.left():
            if left < least:
                least, since_s = left, time.monotonic()
            if time.monotonic() - since_s > DRAIN_S:
                rows = [
                    row for state in ("scheduled", "queued", "running") for row in self._jobs(state)
                ]
                raise Broke(f"{left} jobs are not done: {rows[:5]}")
            time.sleep(0.1)

    def _jobs(self, state: str) -> Iterator[str]:
        from taskqd.jobs.job import State

        return (
            f"{row.id} {state} {row.record[:60]!r}" for row in self.app.storage.jobs(State(state))
        )

    def stop(self) -> list[str]:
        """Stop the daemons; return what went wrong."""
        self.stop_killing()
        for daemon in self._daemons:
            # An interpreter that has just been started would die of it.
            daemon.wait("master.started", pid=daemon.pid)
        # The last that was killed whole is recovered by its successor.
        living = {daemon.pid for daemon in self._daemons}
        wait_for(lambda: self._nodes() == living, "the living nodes, and no others", DEAD_S)
        for daemon in self._daemons:
            daemon.send("SIGTERM")
        codes = [daemon.exit_code() for daemon in self._daemons]
        return [*self._failed, *(f"a daemon exited with {code}" for code in codes if code)]

    def _nodes(self) -> set[int]:
        """Return the masters of the nodes that the storage knows."""
        return {row.node.pid for row in self.app.storage.nodes()}

    def kills(self) -> Counter[str]:
        return Counter(f"kill {fault.kind}" for fault in read_faults(self.folder / FAULTS))


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def locks(arena: Arena, count: int) -> Result:
    """`count` acquisitions of a few locks."""
    calls = []
    for number in range(count):
        name, for_s = f"lock{arena.dice.randrange(LOCKS)}", arena.dice.uniform(0.0, 0.006)
        task = contention_workload.in_code if number % 4 == 0 else contention_workload.by_option
        calls.append(task.s(name, for_s))
    for start in range(0, count, 100):
        arena.app.enqueue(calls[start : start + 100])
        while arena.left() > 300:
            time.sleep(0.02)
    arena.drain()
    wrong = arena.stop()
    lines, _torn = read_lines(arena.folder / JOBS)
    found = list(holds(lines, read_faults(arena.folder / FAULTS)))
    counts = {"acquisitions": len(found), "cut short": sum(not hold.released for hold in found)}
    ended = {hold.job for hold in found if hold.released}
    lost = [f"{count - len(ended)} jobs never had their lock"] if len(ended) < count else []
    still = [f"still held: {row}" for row in arena.app.storage.locks()]
    return Result(counts | arena.kills(), [*wrong, *overlaps(found), *lost, *still])


def rate(arena: Arena, seconds: float) -> Result:
    """Five starts in a second, asked for by many more jobs than that."""
    count = round(5 * seconds)
    arena.app.enqueue([contention_workload.limited.s() for _ in range(count)])
    arena.drain()
    wrong = arena.stop()
    lines, _torn = read_lines(arena.folder / JOBS)
    starts = [line.m for line in lines if line.e == "begin"]
    most = [f"{count - len(starts)} jobs never started"] if len(starts) < count else []
    took_s = (max(starts) - min(starts)) / S
    counts = {"starts": len(starts), "starts in 10 s": round(10 * len(starts) / took_s)}
    return Result(counts | arena.kills(), [*wrong, *crowded(starts, 5, S), *most])


def leaks(arena: Arena, count: int) -> Result:
    """Jobs of every kind, revoked, expired and killed at random; nothing of them may stay."""
    from tests.chaos.apps.leftovers_workload import Mixture

    mixture = Mixture(arena.app, arena.dice)
    for start in range(0, count, 50):
        with contextlib.suppress(StorageError):
            mixture.enqueue(min(50, count - start))
        mixture.revoke_some()
        while arena.left() > 300:
            time.sleep(0.02)
    arena.stop_killing()
    arena.drain()
    wrong = arena.stop()
    arena.app.storage.purge_dead()
    storage = arena.app.storage
    storage.purge(list(arena.app.queues), dead_ttl_s=1, dead_max=1)
    named = [f"leftover: {name}" for name in storage.leftovers()]
    return Result(dict(mixture.counts + arena.kills()), [*wrong, *named, *remains(arena.url)])


WHAT = {"locks": locks, "rate": rate, "leaks": leaks}


def hold_contest(
    what: str,
    folder: Path,
    storage: str,
    amount: float,
    *,
    seed: int = 1,
    daemons: int = 3,
    pause_s: float = 0.25,
) -> Result:
    with Arena(folder, storage, seed, daemons=daemons, pause_s=pause_s) as arena:
        return WHAT[what](arena, amount)  # type: ignore[operator]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ledgers", description=__doc__)
    parser.add_argument("what", choices=[*WHAT])
    parser.add_argument("--storage", choices=["sqlite", "redis", "valkey"], default="redis")
    parser.add_argument("--count", type=int, default=0, help="jobs; 20000 locks, 10000 others")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.25, help="seconds between two kills")
    given = parser.parse_args(argv)
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    amounts = {"locks": given.count or 20_000, "leaks": given.count or 10_000}
    began = time.monotonic()
    result = hold_contest(
        given.what,
        folder,
        given.storage,
        amounts.get(given.what, given.seconds),
        seed=given.seed,
        daemons=given.daemons,
        pause_s=given.pause,
    )
    took_s = time.monotonic() - began
    print(f"{given.what} on {given.storage}, seed {given.seed}, {took_s:.0f} s: {result.counts}")
    for wrong in result.wrong[:20]:
        print(f"  {wrong}")
    print(f"{len(result.wrong)} violations")
    if result.wrong:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(result.wrong)


if __name__ == "__main__":
    sys.exit(main())

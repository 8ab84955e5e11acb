"""Four daemons, each killed and restarted at random, and the proof that each tick fired once.

    python -m tests.chaos.cron_chaos --seconds 120 --seed 1 --storage redis

Exit code 1 if a tick is missing, fired twice or ran twice without an excuse.  What was written down
is kept where a run fails.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil

from taskqd import App, every
from tests.chaos.apps.cron_workload import NAMESPACE
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.checks.cron_checker import PERIOD_MS, Judgement, judge
from tests.chaos.faults.operation import send
from tests.chaos.ledger import FAULTS, JOBS, Fault, Ledger, read_faults, read_lines
from tests.chaos.serve_storage import serve_storage
from tests.chaos.world import Broke, all_dead, wait_for
from tests.support.rigs.daemon import Daemon

DAEMONS = 4
GRACE_S = 6.0
DEAD_S = 60.0
READY_S = 120.0
END_S = 120.0
"""Only a hang takes so long to fire and run what is due."""
KINDS = ("tree", "tree", "master", "scheduler", "worker", "stop", "all", "freeze")
"""Whom SIGKILL hits; "stop" is SIGTERM, "all" the trees of all daemons at once, "freeze" stops a
daemon for a while, which may outlast its lease."""
FROZEN_S = (0.5, 7.0)


class Report(msgspec.Struct):
    storage: str
    seed: int
    seconds: float
    faults: dict[str, int]
    changes: int
    judgement: Judgement


class CronChaos:
    def __init__(self, folder: Path, storage: str, seed: int) -> None:
        self._folder = folder.resolve()
        self._storage = storage
        self._seed = seed
        self._chance = random.Random(seed)
        self._book = Ledger(folder / FAULTS)
        self._daemons: list[Daemon] = []
        self._since: dict[str, int] = {}
        self._changes = 0

    def run(self, seconds: float) -> Report:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            url = serve_storage(stack, self._storage, self._folder)
            app = _client(url)
            stack.callback(app.close)
            self._daemons = [self._daemon(number, url) for number in range(DAEMONS)]
            stack.callback(self._kill_all)
            for daemon in self._daemons:
                daemon.start()
            self._begin(app)
            self._torment(app, time.monotonic() + seconds)
            until_ms = time.time_ns() // 1_000_000
            self._come_to_rest(until_ms)
            return self._report(seconds, until_ms)

    def _daemon(self, number: int, url: str) -> Daemon:
        folder = self._folder / f"daemon{number}"
        argv = [sys.executable, "-m", "taskqd", "tests.chaos.apps.cron_workload:app"]
        argv += ["--name", f"d{number}", "--workers", "1", "--grace", str(GRACE_S)]
        argv += ["--health", "off", "--log-format", "json"]
        env = {
            "TASKQD_STORAGE": url,
            "TASKQD_STORAGE__NODE_LEASE_S": "5",
            "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
            LEDGER_ENV: str(self._folder / JOBS),
        }
        return Daemon(folder, argv, env=env)

    def _begin(self, app: App) -> None:
        """Wait for the first tick; then make the second task at run time."""
        wait_for(lambda: self._fired()["tick"], "the first tick fires", READY_S)
        self._since["tick"] = min(self._fired()["tick"])
        app.periodic.add("made", "mark", every(seconds=1), [0], missed="all")
        kept = msgspec.json.decode(app.features.schedules()["made"])
        self._since["made"] = every(seconds=1).next_after(kept["since_ms"]) or 0

    # -- faults --------------------------------------------------------------------------------

    def _torment(self, app: App, until_s: float) -> None:
        while time.monotonic() < until_s:
            kind = self._chance.choice(KINDS)
            victims = self._daemons if kind == "all" else [self._chance.choice(self._daemons)]
            for daemon in victims:
                self._hit(daemon, "tree" if kind == "all" else kind)
            self._change(app)
            time.sleep(self._chance.uniform(0.0, 1.5))
            for daemon in victims:
                if daemon.process is None or daemon.process.poll() is not None:
                    daemon.start()
            time.sleep(self._chance.uniform(0.0, 1.0))

    def _change(self, app: App) -> None:
        """Change the second task: its ticks must neither double nor vanish."""
        self._changes += 1
        app.periodic.change("made", args=[self._changes])

    def _hit(self, daemon: Daemon, kind: str) -> None:
        fault = Fault(kind=kind, begin=time.monotonic_ns(), end=0)
        if kind == "tree":
            fault.killed = _kill_tree(daemon)
        elif kind == "freeze":
            fault.frozen = [process.pid for process in daemon.alive()]
            for pid in fault.frozen:
                send(pid, "SIGSTOP")
            time.sleep(self._chance.uniform(*FROZEN_S))
            for pid in fault.frozen:
                send(pid, "SIGCONT")
        elif kind == "stop":
            send(daemon.pid, "SIGTERM")
            self._await_end(daemon)
        elif kind == "master":
            send(daemon.pid, "SIGKILL")
            self._await_end(daemon)
        else:
            fault.killed = [process.pid for process in daemon.alive() if _is(process, kind)][:1]
            fault.begin = time.monotonic_ns()
            for pid in fault.killed:
                send(pid, "SIGKILL")
            wait_for(lambda: all_dead(fault.killed), f"{kind} dies", DEAD_S)
        fault.end = time.monotonic_ns()
        self._book.append(fault)

    @staticmethod
    def _await_end(daemon: Daemon) -> None:
        assert daemon.process is not None
        try:
            daemon.process.wait(DEAD_S)
        except subprocess.TimeoutExpired:
            raise Broke(f"{daemon.folder.name} does not end within {DEAD_S:g} s") from None

    def _kill_all(self) -> None:
        for daemon in self._daemons:
            if daemon.process is not None:
                _kill_tree(daemon)

    # -- rest ----------------------------------------------------------------------------------

    def _come_to_rest(self, until_ms: int) -> None:
        """No more faults: what is due has to fire and to run, without help."""
        wanted = {
            f"{name}@{ms}"
            for name, first in self._since.items()
            for ms in range(first, until_ms + 1, PERIOD_MS)
        }
        deadline_s = time.monotonic() + END_S
        while time.monotonic() < deadline_s:
            lines, _ = read_lines(self._folder / JOBS)
            if wanted <= {line.id for line in lines if line.e == "end"}:
                break
            time.sleep(0.2)
        for daemon in self._daemons:
            send(daemon.pid, "SIGTERM")
        for daemon in self._daemons:
            self._await_end(daemon)

    def _fired(self) -> dict[str, list[int]]:
        """Return the ticks that daemons said they fired, by name."""
        found: dict[str, list[int]] = defaultdict(list)
        for daemon in self._daemons:
            for event in daemon.events("tick.fired"):
                found[event["task"]].append(event["tick"])
        return found

    def _report(self, seconds: float, until_ms: int) -> Report:
        faults = read_faults(self._folder / FAULTS)
        lines, _torn = read_lines(self._folder / JOBS)
        return Report(
            self._storage,
            self._seed,
            seconds,
            dict(Counter(fault.kind for fault in faults)),
            self._changes,
            judge(lines, self._fired(), faults, self._since, until_ms),
        )


def _client(url: str) -> App:
    app = App(NAMESPACE, url)

    @app.task(name="mark")
    def mark(change: int) -> None: ...

    return app


def _is(process: psutil.Process, role: str) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(f"taskqd: {role}")
    except psutil.Error:
        return False


def _kill_tree(daemon: Daemon) -> list[int]:
    """Kill every process of a daemon, the master first stopped, so that it takes nothing back."""
    if daemon.process is not None and daemon.process.poll() is None:
        send(daemon.pid, "SIGSTOP")
    killed: set[int] = set()
    while living := [process.pid for process in daemon.alive()]:
        killed.update(living)
        for pid in living:
            send(pid, "SIGKILL")
        if daemon.process is not None:
            daemon.process.poll()
    return sorted(killed)


def markdown(report: Report) -> str:
    judged = report.judgement
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(report.faults.items()))
    lines = [
        f"# Four daemons on {report.storage}, seed {report.seed}, {report.seconds:g} s",
        f"faults: {faults}; {report.changes} changes of a schedule",
        ", ".join(f"{name} {count}" for name, count in judged.counts.items()),
        f"laws broken: {len(judged.broken)}",
        *judged.broken[:20],
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="cron-chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storage", choices=["sqlite", "redis", "valkey"], default="redis")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cron-chaos-"))
    report = CronChaos(folder, given.storage, given.seed).run(given.seconds)
    print(markdown(report))
    if report.judgement.broken:
        print(f"kept: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

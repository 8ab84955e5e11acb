"""A chord of thousands of members completes though a worker is killed every second.

    python -m tests.chaos.chord_chaos --members 10000 --storage redis

Exit code 1 if a member was not run, the callback did not get all values, a job was given up, or
anything is left over.  What was written down is kept where a run fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import msgspec

from taskqd import App, State
from taskqd.client.composition import ChordResult
from tests.chaos.apps import chord_workload
from tests.chaos.serve_storage import serve_storage
from tests.support.rigs.daemon import Daemon

READY_S = 120.0
END_S = 600.0
"""Only a hang takes so long."""


class Report(msgspec.Struct):
    storage: str
    members: int
    workers: int
    every_s: float
    kills: int
    took_s: float
    starts: int
    """Of members; more than there are members are those that were killed, and run again."""
    gathered: int
    """Starts of the callback."""
    payload_bytes_max: int
    broken: list[str]


class ChordChaos:
    def __init__(self, folder: Path, storage: str, seed: int = 1) -> None:
        self._folder = folder.resolve()
        self._storage = storage
        self._chance = random.Random(seed)
        self._ledger = self._folder / "ledger"
        self._over = threading.Event()
        self._kills = 0

    def run(self, members: int, *, every_s: float, workers: int, work_ms: float) -> Report:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            url = serve_storage(stack, self._storage, self._folder)
            app = App(chord_workload.NAMESPACE, url)
            stack.callback(app.close)
            for task in (chord_workload.member, chord_workload.gather):
                app.task(name=task.name)(task.function)
            begun_s = time.monotonic()
            chord, largest = self._enqueue(app, members, work_ms)
            daemon = stack.enter_context(self._daemon(url, workers))
            daemon.wait("master.ready", timeout_s=READY_S)
            killer = threading.Thread(target=self._kill, args=(daemon, every_s))
            killer.start()
            try:
                value = chord.get(timeout=END_S)
            finally:
                self._over.set()
                killer.join()
            took_s = time.monotonic() - begun_s
            # What a kill has put back has run by now, or runs while the daemon drains.
            daemon.stop()
            broken = self._judge(app, value, members)
            broken += [f"left over: {text}" for text in app.storage.leftovers()]
        words = Counter(self._ledger.read_text().split())
        gathered = words.pop("gather", 0)
        broken += [f"member {n} was not run" for n in range(members) if str(n) not in words]
        return Report(
            self._storage, members, workers, every_s, self._kills, round(took_s, 1),
            words.total(), gathered, largest, broken,
        )  # fmt: skip

    def _enqueue(self, app: App, members: int, work_ms: float) -> tuple[ChordResult, int]:
        member, gather = app.registry["member"], app.registry["gather"]
        chord = app.chord([member.s(number, work_ms) for number in range(members)], gather)
        result: ChordResult = app.enqueue(chord)
        return result, max(len(row.record) for row in app.storage.jobs(State.QUEUED))

    def _daemon(self, url: str, workers: int) -> Daemon:
        folder = self._folder / "daemon"
        argv = [sys.executable, "-m", "taskqd", "tests.chaos.apps.chord_workload:app"]
        argv += ["--workers", str(workers), "--health", "off", "--log-format", "json"]
        env = {
            "TASKQD_STORAGE": url,
            "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
            chord_workload.LEDGER_ENV: str(self._ledger),
        }
        return Daemon(folder, argv, env=env)

    def _kill(self, daemon: Daemon, every_s: float) -> None:
        """Kill one of the workers again and again; the first at once."""
        while True:
            with contextlib.suppress(OSError):
                pids = daemon.worker_pids()
                if pids:
                    os.kill(self._chance.choice(pids), signal.SIGKILL)
                    self._kills += 1
            if self._over.wait(every_s):
                return

    def _judge(self, app: App, value: dict[str, int], members: int) -> list[str]:
        wanted = {"members": members, "sum": sum(range(members)), "without": 0}
        broken = [] if value == wanted else [f"the callback got {value}, expected {wanted}"]
        broken += [f"dead: {row.id} {row.reason}" for row in app.dead]
        counts = {name: row for name, row in app.counts().items() if row.queued or row.running}
        return broken + ([f"not drained: {counts}"] if counts else [])


def markdown(report: Report) -> str:
    fields = msgspec.structs.asdict(report)
    broken = fields.pop("broken")
    rows = [f"| {name} | {value} |" for name, value in fields.items()]
    verdict = [f"- {text}" for text in broken] or ["Every member and the callback have run."]
    return "\n".join(["| chord under kills | |", "|---|---|", *rows, "", *verdict])


def main() -> int:
    parser = argparse.ArgumentParser(prog="chord-chaos", description=__doc__)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--storage", default="sqlite", choices=("sqlite", "redis", "valkey"))
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work-ms", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chord-chaos-"))
    report = ChordChaos(folder, chosen.storage, chosen.seed).run(
        chosen.members, every_s=chosen.every, workers=chosen.workers, work_ms=chosen.work_ms
    )
    print(markdown(report))
    if report.broken:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

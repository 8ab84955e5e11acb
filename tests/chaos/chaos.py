"""Chaos: a daemon under a seeded nemesis, and the proof that nothing was lost.

    python -m tests.chaos.chaos --seconds 60 --seed 1 --storage redis --kind process

The report goes to the folder given by --out (or is printed); the exit code is 1 if any law is
broken.  What was written down is kept where a run fails, or with --keep.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.chaos import collect
from tests.chaos.checks.checker import Broken, Checker
from tests.chaos.checks.recovery import recovery
from tests.chaos.faults.nemesis import OPERATIONS, Operation
from tests.chaos.ledger import FAULTS, FINAL, Fault, Ledger, Rules, read_evidence
from tests.chaos.plan import LONG_S, Step, make_long_plan, make_plan
from tests.chaos.report import Report, document, markdown, versions
from tests.chaos.world import GRACE_S, LEASE_S, Broke, World, wait_for
from tests.support.rigs.daemon import Daemon

READY_S = 120.0
DRAIN_S = 120.0
CLIENTS = 2
LONG_RATE, LONG_WORKERS = 115.0, 6


class Run:
    def __init__(
        self, world: World, plan: Sequence[Step], seconds: float, *, nodes: int, loss: bool
    ) -> None:
        self.world = world
        self.nodes = nodes
        self.plan = plan
        self.seconds = seconds
        self.broke: list[str] = []
        self._rules = Rules(lease_s=LEASE_S, grace_s=GRACE_S, loss=loss)
        self._book = Ledger(world.folder / FAULTS)
        self._open: list[Operation] = []
        """Faults whose consequences go on."""

    def run(self) -> None:
        world = self.world
        world.start_daemon().wait("master.ready", timeout_s=READY_S)
        if self.nodes > 1:
            world.start_neighbour().wait("master.ready", timeout_s=READY_S)
        for _ in range(CLIENTS):
            world.start_client()
        try:
            self._torment()
        except Broke as error:
            self.broke.append(str(error))
        self._come_to_rest()

    # -- faults --------------------------------------------------------------------------------

    def _torment(self) -> None:
        until_s = time.monotonic() + self.seconds
        for step in self.plan:
            time.sleep(max(0.0, min(step.after_s, until_s - time.monotonic())))
            if time.monotonic() >= until_s:
                return
            self._take(step)

    def _take(self, step: Step) -> None:
        operations = [
            OPERATIONS[name](self.world, chance)
            for name, chance in zip(step.names, step.chances, strict=True)
        ]
        taken = [operation for operation in operations if operation.begin()]
        try:
            for operation in taken:
                operation.verify()
            time.sleep(step.hold_s if taken else 0.0)
        finally:
            for operation in reversed(taken):
                operation.heal()
            self._open += taken
            self._write_down()
        self._check_daemon()

    def _write_down(self) -> None:
        for operation in [operation for operation in self._open if operation.over()]:
            self._open.remove(operation)
            self._book.append(operation.close())

    def _check_daemon(self) -> None:
        daemon = self.world.daemon
        if daemon and daemon.process and (code := daemon.process.poll()) is not None:
            self.broke.append(f"the daemon ended by itself with {code}")
            self.world.start_daemon()

    # -- rest ----------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """No more faults: everything has to come to its end, without help."""
        world = self.world
        try:
            world.stop_clients()
        except Broke as error:
            self.broke.append(str(error))
        wait_for(self._all_over, "the consequences of all faults end", READY_S)
        storage = collect.open_storage(world)
        try:
            collect.wait_drained(storage, DRAIN_S)
        except Broke as error:
            self.broke.append(str(error))
        time.sleep(2.5)
        until_ms = time.time_ns() // 1_000_000 - 1500
        if world.neighbour:
            self._stop_neighbour(world.neighbour)
        self._stop()
        # The ticks that fired while the daemon stopped are still queued.
        self._run_burst()
        final = collect.final(world, storage, self._rules, until_ms)
        storage.close()
        (world.folder / FINAL).write_bytes(msgspec.json.encode(final))

    def _all_over(self) -> bool:
        self._write_down()
        return not self._open

    def _stop(self) -> None:
        stop = OPERATIONS["stop"](self.world, 0.0)
        stop.begin()
        try:
            stop.verify()
        except Broke as error:
            self.broke.append(str(error))
        self._book.append(stop.close())

    def _stop_neighbour(self, neighbour: Daemon) -> None:
        begin, pids = time.monotonic_ns(), self.world.neighbours()
        code = neighbour.stop(READY_S)
        if code:
            self.broke.append(f"the neighbour, told to stop, exited with {code}")
        end = time.monotonic_ns()
        fault = Fault(kind="stop neighbour", begin=begin, end=end, killed=pids, drains=True)
        self._book.append(fault)

    def _run_burst(self) -> None:
        daemon = self.world.start_daemon("--burst", "--no-scheduler")
        try:
            code = daemon.exit_code(READY_S)
        except Exception as error:
            self.broke.append(f"a burst daemon on empty queues does not end: {error}")
        else:
            if code:
                self.broke.append(f"a burst daemon on empty queues ended with {code}")


def torment(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    storage: str,
    kind: str = "process",
    fsync: str = "always",
    workers: int = 4,
    rate: float = 50.0,
    only: Sequence[str] = (),
    pace: float = 1.0,
    nodes: int = 1,
    long: bool = False,
) -> Report:
    """Run chaos in `folder` and judge it.

    `long`: kills only, as many as `plan.LONG` says, at a rate that makes 300,000 jobs.
    """
    if long:
        plan = make_long_plan(seed, seconds)
        rate, workers = LONG_RATE, LONG_WORKERS
    else:
        plan = make_plan(seed, seconds, storage, only, pace)
    world = World(
        folder,
        storage=storage,
        kind=kind,
        fsync=fsync,
        workers=workers,
        rate=rate,
        seed=seed,
        level="info" if long else "debug",
    )
    began = time.monotonic()
    with world:
        run = Run(world, plan, seconds, nodes=nodes, loss="empty storage" in only)
        run.run()
    return judge(world, run, began)


def judge(world: World, run: Run, began: float) -> Report:
    """Judge a run that is over by what it has written down."""
    evidence = read_evidence(world.folder)
    judgement = Checker(evidence).judge()
    return Report(
        seed=world.seed,
        seconds=run.seconds,
        took_s=round(time.monotonic() - began, 1),
        storage=world.storage,
        kind=world.kind,
        fsync=world.fsync if world.server else "",
        workers=world.workers,
        nodes=run.nodes,
        versions=versions(world),
        faults=dict(Counter(fault.kind for fault in evidence.faults)),
        counts=judgement.counts,
        recovery=recovery(evidence),
        broken=[*(Broken("run", "", text) for text in run.broke), *judgement.broken],
        plan=list(run.plan),
    )


def judge_again(folder: Path) -> Report:
    """Judge what a run has kept by the laws as they are now; its own troubles stay."""
    [path] = folder.glob("chaos-*.json")
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    evidence = read_evidence(folder)
    judgement = Checker(evidence).judge()
    report.counts, report.recovery = judgement.counts, recovery(evidence)
    report.broken = [broken for broken in report.broken if broken.law == "run"]
    report.broken += judgement.broken
    return report


def end_by_signal() -> None:
    """Leave nothing behind where this process is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def main() -> int:
    given = _arguments()
    if given.judge:
        report = judge_again(Path(given.judge))
        if given.report:
            _write(Path(given.report), report)
        print(markdown(report))
        return 1 if report.broken else 0
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = torment(
        folder,
        seconds=given.seconds or (LONG_S if given.long else 60.0),
        seed=given.seed,
        storage=given.storage,
        kind=given.kind,
        fsync=given.fsync,
        workers=given.workers,
        rate=given.rate,
        only=given.only.split(",") if given.only else (),
        pace=given.pace,
        nodes=given.nodes,
        long=given.long,
    )
    if given.report:
        _write(Path(given.report), report)
    out = Path(given.out) if given.out else folder
    out.mkdir(parents=True, exist_ok=True)
    name = f"chaos-{given.storage}-{given.kind}-{given.seed}"
    (out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (out / f"{name}.md").write_text(markdown(report))
    print(markdown(report))
    if report.broken or given.keep:
        print(f"kept: {folder}", file=sys.stderr)
    elif not given.out:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if report.broken else 0


def _write(page: Path, report: Report) -> None:
    """Write the page's first part anew; what other campaigns have put behind it stays."""
    _, found, others = (page.read_text() if page.exists() else "").partition("\n# ")
    page.write_text(document(report) + (f"\n# {others}" if found else ""))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.0, help="60, or 1700 with --long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storage", choices=["sqlite", "redis", "valkey"], default="redis")
    parser.add_argument(
        "--kind", choices=["process", "thread", "greenlet", "asyncio"], default="process"
    )
    parser.add_argument("--fsync", choices=["always", "everysec", "no"], default="always")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--nodes", type=int, choices=[1, 2], default=1)
    parser.add_argument("--rate", type=float, default=50.0, help="jobs/s of each of two clients")
    parser.add_argument("--pace", type=float, default=1.0, help="2: faults twice as dense")
    parser.add_argument("--only", default="", help="faults to choose from, by name")
    parser.add_argument("--long", action="store_true", help="1,000 workers and 100 daemons killed")
    parser.add_argument("--report", default="", help="file for the report as a page of docs/")
    parser.add_argument("--out", default="", help="folder for the report")
    parser.add_argument("--judge", default="", help="no run: judge what one has kept, anew")
    parser.add_argument("--keep", action="store_true", help="keep what was written down")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Walk every named step: at each, a process of a real daemon is killed, or its storage fails.

    python -m tests.chaos.failpoint_walk --storage redis --action kill

One run of chaos in which the faults are chosen by step and not by dice; it is judged by the same
checker.  What leads to a step that jobs alone do not reach is provoked (`failpoint_faults.PROVOKED`).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.apps.workload import app
from tests.chaos.chaos import READY_S, Run, end_by_signal, judge
from tests.chaos.client import Client
from tests.chaos.faults.failpoint_faults import (
    ACTIONS,
    AGAIN_S,
    BURST,
    JOBS,
    WALK,
    AtStep,
    ErrorAtStep,
)
from tests.chaos.faults.failpoints import SEEN
from tests.chaos.faults.nemesis import OPERATIONS
from tests.chaos.faults.operation import Operation
from tests.chaos.ledger import CLIENTS, Ledger
from tests.chaos.report import Report, markdown
from tests.chaos.world import World, wait_for

TRIES = 5
DEATHS_MAX = 8
"""After so many deaths the daemon starts anew: one that crashes respawns its workers ever later."""


class Walk(Run):
    def __init__(self, world: World, places: Sequence[tuple[str, str]], action: str) -> None:
        super().__init__(world, (), 0.0, nodes=1, loss=False)
        self._places = places
        self._action = ACTIONS[action]
        self._deaths = 0
        self._client = Client(0, 1.0, Ledger(world.folder / CLIENTS))

    def _torment(self) -> None:
        for provocation, step in self._places:
            self._refresh()
            wait_for(self._serves, "the daemon serves", READY_S)
            at = self._action(self.world, 0.3, step)
            at.begin()
            try:
                self._lead_to(at, provocation, step)
            finally:
                at.heal()
                self._open.append(at)
                self._write_down()
            self._check_daemon()
            self._deaths += bool(at.fault.killed)

    def _lead_to(self, at: AtStep, provocation: str, step: str) -> None:
        for _ in range(TRIES):
            if provocation:
                self._provoke(provocation)
            else:
                self._nudge(step)
            if at.come(AGAIN_S):
                break
        at.verify()

    def _provoke(self, name: str) -> None:
        if name == "crowd":
            self._crowd()
            return
        if name == "cut":
            fault: Operation = ErrorAtStep(self.world, 0.0, "desk.lease.after")
        else:
            fault = OPERATIONS[name](self.world, 0.5)
        if fault.begin():
            try:
                fault.verify()
            finally:
                fault.heal()
                self._open.append(fault)

    def _nudge(self, step: str) -> None:
        """Enqueue what leads to the step."""
        for kind in ("noop", JOBS.get(step.split(".")[1], "noop")):
            self._client.enqueue(kind, 1)

    def _crowd(self) -> None:
        """Enqueue short jobs and some that last: what was read ahead behind them is given back."""
        for _ in range(10):
            self._client.enqueue("noop", 40)
            self._client.enqueue("long", 1)

    def _serves(self) -> bool:
        return bool(self.world.role("worker") and self.world.role("scheduler"))

    def _refresh(self) -> None:
        if self._deaths >= DEATHS_MAX:
            self._deaths = 0
            self._provoke("stop")


def walk(
    folder: Path, storage: str, action: str, places: Sequence[tuple[str, str]] = WALK
) -> tuple[Report, set[str]]:
    """Walk these (provocation, step); return the report, and every step that was come to."""
    began = time.monotonic()
    world = World(folder, storage=storage, workers=4, rate=30.0, seed=1)
    with world:
        (world.failpoints / SEEN).touch()
        run = Walk(world, places, action)
        run.run()
        app.close()  # its storage was this run's
    seen = set((world.failpoints / SEEN).read_text().split())
    return judge(world, run, began), seen


def main() -> int:
    parser = argparse.ArgumentParser(prog="walk", description=__doc__)
    parser.add_argument("--storage", choices=["sqlite", "redis", "valkey"], default="redis")
    parser.add_argument("--action", choices=sorted(ACTIONS), default="kill")
    parser.add_argument("--only", default="", help="steps that contain this")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="walk-"))
    places = [place for place in WALK if given.only in place[1]]
    report, seen = walk(folder, given.storage, given.action, places)
    print(markdown(report))
    print(f"{len(places)} steps walked; come to, and not in the walk: {sorted(unwalked(seen))}")
    if report.broken or given.keep:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if report.broken else 0


def unwalked(seen: set[str]) -> set[str]:
    """Return the steps that exist and are not in the walk."""
    return seen - {step for _, step in WALK} - set(BURST)


if __name__ == "__main__":
    sys.exit(main())

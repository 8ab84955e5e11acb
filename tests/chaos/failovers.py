"""Failovers, failbacks and moved slots under load: what was acknowledged is done, and work goes on.

    python -m tests.chaos.failovers --storage cluster --kills 50 --failbacks 20 --doubles 20 --moves 100
    python -m tests.chaos.failovers --storage sentinel --durability memory,local,replica --kills 50

Real servers: a cluster of three masters with a replica each, or three servers under a Sentinel.  One
daemon serves, and clients enqueue jobs, pipelines and chords to a queue on each master all the time.
Exit code 1 if an acknowledged job was not done (but for what `durability` says may be lost with a
server), a process of the daemon ended, the affected queue began nothing within 5 s of the election, or
a queue on another server began nothing for 5 s.  `--report` puts the table into a page of docs/.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.chaos import end_by_signal
from tests.chaos.failover_report import PART_AWAY, Event, Outcome, has_failed, line, with_outcomes
from tests.chaos.failover_scene import LEASE_S, FailoverScene

DURABILITIES = {"sentinel": "memory,local,replica", "cluster": "replica"}


def run(
    folder: Path,
    storage: str,
    durability: str,
    kind: str,
    events: list[tuple[str, int]],
    lease_s: float = LEASE_S,
) -> Outcome:
    """Do each kind of event so many times under one load."""
    with FailoverScene(folder, storage, durability, kind, lease_s) as scene:
        ways: dict[str, Callable[[], Iterator[Event]]] = {
            "slot moved": scene.move,
            "master killed": scene.kill,
            "handed back": scene.fail_back,
            "killed twice": scene.kill_twice,
            PART_AWAY: scene.lose_part,
        }
        seen = [event for name, count in events for _ in range(count) for event in ways[name]()]
        return Outcome(storage, durability, kind, seen, *scene.judge())


def main() -> int:
    given = _arguments()
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="failovers-"))
    # Slots are moved first, while it is known which servers are masters.
    events = [("slot moved", given.moves), ("master killed", given.kills)]
    events += [("handed back", given.failbacks), ("killed twice", given.doubles)]
    events += [(PART_AWAY, given.parts)]
    outcomes = []
    for durability in (given.durability or DURABILITIES[given.storage]).split(","):
        outcome = run(folder / durability, given.storage, durability, given.kind, events)
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    if given.report:
        page = Path(given.report)
        page.write_text(with_outcomes(page.read_text(), outcomes))
    failed = any(map(has_failed, outcomes))
    if failed:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="failovers", description=__doc__)
    parser.add_argument("--storage", choices=sorted(DURABILITIES), default="cluster")
    parser.add_argument("--durability", default="", help="one or more, by commas")
    parser.add_argument("--kind", default="thread", help="of the workers")
    for name, count in (
        ("kills", 50),
        ("failbacks", 20),
        ("doubles", 20),
        ("moves", 0),
        ("parts", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--report", default="", help="the page of docs/ that has the table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

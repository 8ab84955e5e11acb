"""Outages of a storage, longer and shorter than a lease, under jobs of every kind.

    python -m tests.chaos.outages --storage redis,sqlite --kind process,thread --seconds 5,13

Two daemons serve one storage.  Each round enqueues long jobs, jobs under a lock, pipelines, chords and
jobs that are to run at most once, waits until they run, and takes the storage away.  Nobody dies, so
nothing may be lost, start twice, be counted as a crash or meet another in a lock; what the jobs write
down outside of the storage is the judge (`checks/outage_checks.py`).  Exit code 1 if a law is broken or
work begins again later than 2 s after the storage's return.  `--report` puts the rounds into the table
of a page of docs/, beside those that it has.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.chaos import end_by_signal
from tests.chaos.faults.absences import WAYS
from tests.chaos.outage_report import KINDS, Row, has_failed, line, with_rounds
from tests.chaos.outage_scene import Scene
from tests.chaos.world import Broke

STORAGES = ("redis", "sentinel", "cluster", "sqlite")


def run(
    folder: Path, storage: str, kind: str, ways: Sequence[str], seconds: Sequence[float],
    lease_s: float = 10.0,
) -> list[Row]:  # fmt: skip
    """Run one round for each way and length on one pair of daemons; a new pair where one hangs."""
    todo = deque((way, length_s) for way in ways for length_s in seconds)
    rows: list[Row] = []
    while todo:
        with Scene(folder / str(len(todo)), storage, kind, lease_s) as scene:
            for row in _rounds(scene, storage, kind, todo):
                print(line(row), flush=True)
                rows.append(row)
    return rows


def _rounds(scene: Scene, storage: str, kind: str, todo: deque[tuple[str, float]]) -> Iterator[Row]:
    while todo:
        way, length_s = todo.popleft()
        try:
            jobs, again_s, broken = scene.round(way, length_s)
        except (Broke, AssertionError) as error:
            yield Row(storage, kind, way, length_s, 0, 0.0, (str(error),))
            return
        yield Row(storage, kind, way, length_s, jobs, again_s, tuple(broken))
    if ends := scene.stop():
        yield Row(storage, kind, "stop", 0.0, 0, 0.0, tuple(ends))


def main() -> int:
    given = _arguments()
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    print("| storage | workers | the storage is | s | jobs | work again after s | laws |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- |")
    lengths = [float(text) for text in given.seconds.split(",")]
    rows: list[Row] = []
    for storage in given.storage.split(","):
        ways = [way for way in WAYS[storage] if not given.way or way in given.way.split(",")]
        for kind in given.kind.split(","):
            place = folder / f"{storage}-{kind}"
            rows += run(place, storage, kind, ways, lengths, given.lease_s)
    wrong = [row for row in rows if has_failed(row)]
    jobs = sum(row.jobs for row in rows)
    print(f"\n{len(rows)} rounds, {jobs} jobs, {len(wrong)} rounds with a broken law or late")
    if given.report:
        page = Path(given.report)
        page.write_text(with_rounds(page.read_text(), rows))
    if wrong or given.keep:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return bool(wrong)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="outages", description=__doc__)
    parser.add_argument("--storage", default=",".join(STORAGES))
    parser.add_argument("--kind", default=",".join(KINDS))
    parser.add_argument("--seconds", default="5,13,30,120")
    parser.add_argument("--way", default="", help="some of the ways, by commas")
    parser.add_argument("--lease-s", type=float, default=10.0)
    parser.add_argument("--report", default="", help="the page of docs/ that has the table")
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

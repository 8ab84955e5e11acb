"""Outages of a storage, longer and shorter than a lease, under jobs of every kind.

    python -m tests.chaos.outages --storage redis,sqlite --kind process,thread --seconds 5,13

Two daemons serve one storage.  Each round enqueues long jobs, jobs under a lock, pipelines, chords and
jobs that are to run at most once, waits until they run, and takes the storage away.  Nobody dies, so
nothing may be lost, start twice, be counted as a crash or meet another in a lock; what the jobs write
down outside of the storage is the judge (`checks/outage_checks.py`).  Exit code 1 if a law is broken or
work begins again later than 2 s after the storage's return.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.chaos import end_by_signal
from tests.chaos.faults.absences import CUT_OFF, OF_REDIS, OF_SQLITE
from tests.chaos.outage_scene import AGAIN_S, Scene

STORAGES = ("redis", "sqlite")
KINDS = ("process", "thread", "greenlet", "asyncio")


class Row(NamedTuple):
    storage: str
    kind: str
    way: str
    seconds: float
    jobs: int
    again_s: float
    broken: tuple[str, ...]


def run(
    folder: Path, storage: str, kind: str, ways: Sequence[str], seconds: Sequence[float],
    lease_s: float = 10.0,
) -> list[Row]:  # fmt: skip
    """Run one round for each way and length on one pair of daemons."""
    rows = []
    with Scene(folder, storage, kind, lease_s) as scene:
        for way in ways:
            for length_s in seconds:
                jobs, again_s, broken = scene.round(way, length_s)
                rows.append(Row(storage, kind, way, length_s, jobs, again_s, tuple(broken)))
                print(_line(rows[-1]), flush=True)
        if ends := scene.stop():
            rows.append(Row(storage, kind, "stop", 0.0, 0, 0.0, tuple(ends)))
    return rows


def _line(row: Row) -> str:
    said = "; ".join(row.broken[:5]) or "held"
    return (
        f"| {row.storage} | {row.kind} | {row.way} | {row.seconds:g} | {row.jobs} | "
        f"{row.again_s:.2f} | {said} |"
    )


def failed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.broken or row.again_s > AGAIN_S]


def main() -> int:
    parser = argparse.ArgumentParser(prog="outages", description=__doc__)
    parser.add_argument("--storage", default=",".join(STORAGES))
    parser.add_argument("--kind", default=",".join(KINDS))
    parser.add_argument("--seconds", default="5,13")
    parser.add_argument("--way", default="", help="some of the ways, by commas")
    parser.add_argument("--lease-s", type=float, default=10.0)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    end_by_signal()
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    print("| storage | workers | the storage | s | jobs | work again after s | laws |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- |")
    rows: list[Row] = []
    for storage in given.storage.split(","):
        ways = [*OF_SQLITE] if storage == "sqlite" else [*OF_REDIS, CUT_OFF]
        ways = [way for way in ways if not given.way or way in given.way.split(",")]
        for kind in given.kind.split(","):
            lengths = [float(text) for text in given.seconds.split(",")]
            place = folder / f"{storage}-{kind}"
            rows += run(place, storage, kind, ways, lengths, given.lease_s)
    wrong = failed(rows)
    jobs = sum(row.jobs for row in rows)
    print(f"\n{len(rows)} rounds, {jobs} jobs, {len(wrong)} rounds with a broken law or late")
    if wrong or given.keep:
        print(f"kept: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Counts jobs from inside the workers, at the same small cost for every queue that is compared.

Each worker process keeps three numbers in a file of its own that is mapped into memory: when its
first job ran, when its last one ran, how many it ran.  The benchmark reads the files.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

METER_ENV = "BENCH_METER"
"""Names the folder of the files."""

_ROW = struct.Struct("<QQQ")
_row: tuple[int, memoryview] | None = None


class Reading(NamedTuple):
    jobs: int
    first_ns: int
    last_ns: int


def _map() -> memoryview:
    global _row
    if _row is None or _row[0] != os.getpid():
        path = Path(os.environ[METER_ENV], str(os.getpid()))
        path.write_bytes(bytes(_ROW.size))
        with path.open("r+b") as file:
            # Words are assigned whole; `struct.pack_into` would let the reader see zeros.
            _row = (os.getpid(), memoryview(mmap.mmap(file.fileno(), _ROW.size)).cast("Q"))
    return _row[1]


def count() -> None:
    row = _map()
    now = time.monotonic_ns()
    row[0] = row[0] or now
    row[1] = now
    row[2] += 1


def stand_at_gate() -> None:
    """Return once the benchmark has opened the gate: until then this worker does nothing else."""
    Path(os.environ[METER_ENV], f"at-gate-{os.getpid()}").touch()
    gate = Path(os.environ[METER_ENV], "open")
    deadline = time.monotonic() + 120
    while not gate.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the gate was not opened")
        time.sleep(0.002)


class Meter:
    """The benchmark's side: one folder for one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def read(self) -> Reading:
        rows = [
            _ROW.unpack(data)
            for file in self.folder.iterdir()
            if file.name.isdigit() and len(data := file.read_bytes()) == _ROW.size
        ]
        started = [row for row in rows if row[2]]
        if not started:
            return Reading(0, 0, 0)
        return Reading(
            sum(row[2] for row in started),
            min(row[0] for row in started),
            max(row[1] for row in started),
        )

    def at_gate(self) -> int:
        return sum(file.name.startswith("at-gate-") for file in self.folder.iterdir())

    def open_gate(self) -> None:
        (self.folder / "open").touch()

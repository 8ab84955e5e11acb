"""Counts jobs from inside the workers, at the same small cost for every queue that is compared.

Each worker process keeps four numbers in a file of its own that is mapped into memory: when its
first job ran, when its last one ran, how many it ran, and for how long those that measure
themselves (`work`) did.  The benchmark reads the files.  Jobs that
are numbered (`mark`) are also written down one by one, outside of every queue's storage, so that
it is known which of them ran although their worker was killed.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from array import array
from pathlib import Path
from typing import NamedTuple

METER_ENV = "BENCH_METER"
"""Names the folder of the files."""

_ROW = struct.Struct("<QQQQ")
_row: memoryview | None = None
_marks = -1
_lock = threading.Lock()


def _forget() -> None:
    """A forked process has files of its own."""
    global _row, _marks, _lock
    _row, _marks, _lock = None, -1, threading.Lock()


os.register_at_fork(after_in_child=_forget)


class Reading(NamedTuple):
    jobs: int
    first_ns: int
    last_ns: int
    processes: int
    worked_ns: int = 0


def _map() -> memoryview:
    path = Path(os.environ[METER_ENV], str(os.getpid()))
    path.write_bytes(bytes(_ROW.size))
    with path.open("r+b") as file:
        # Words are assigned whole; `struct.pack_into` would let the reader see zeros.
        return memoryview(mmap.mmap(file.fileno(), _ROW.size)).cast("Q")


def count(worked_ns: int = 0) -> None:
    global _row
    with _lock:
        row = _row = _row or _map()
        now = time.monotonic_ns()
        row[0] = row[0] or now
        row[1] = now
        row[2] += 1
        row[3] += worked_ns


def work(microseconds: int, *, sleeping: bool) -> None:
    """Compute, or sleep, for so long; the time that it really took is counted."""
    began = time.monotonic_ns()
    if sleeping:
        time.sleep(microseconds / 1e6)
    else:
        while time.monotonic_ns() < began + microseconds * 1000:
            pass
    count(time.monotonic_ns() - began)


def mark(index: int) -> None:
    """Count job number `index`, and write down that it ran: one append, whole or not at all."""
    global _marks
    if _marks < 0:
        path = Path(os.environ[METER_ENV], f"marks-{os.getpid()}")
        _marks = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_marks, index.to_bytes(4, "little"))
    count()


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
            return Reading(0, 0, 0, 0)
        return Reading(
            sum(row[2] for row in started),
            min(row[0] for row in started),
            max(row[1] for row in started),
            len(started),
            sum(row[3] for row in started),
        )

    def marks(self) -> array[int]:
        """Return the numbers of all numbered jobs that ran, as often as each ran."""
        found = array("I")
        for file in self.folder.glob("marks-*"):
            found.frombytes(file.read_bytes())
        return found

    def pids(self) -> list[int]:
        """Return the processes that have run jobs."""
        return [int(file.name) for file in self.folder.iterdir() if file.name.isdigit()]

    def at_gate(self) -> int:
        return sum(file.name.startswith("at-gate-") for file in self.folder.iterdir())

    def open_gate(self) -> None:
        (self.folder / "open").touch()

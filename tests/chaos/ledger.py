"""The ledger: what really happened, written outside the storage by those to whom it happened.

One file for each kind of writer, opened with O_APPEND; one `write(2)` for each line, so lines of
many processes do not mix and a SIGKILL loses at most the line that was never written.  A line
begins and ends with a newline: one that the kernel tore in two (a write that crosses a page can be
cut by SIGKILL) spoils only itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

JOBS, CLIENTS, FAULTS, FINAL = "jobs.jsonl", "clients.jsonl", "faults.jsonl", "final.json"


class Line(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One event.  Which fields are set depends on `e`.

    By jobs: ``begin``, ``end`` (returned), ``raise`` (raised as it was meant to), ``stop`` (gave up
    because its worker drains), ``crash`` (about to end its own process), ``lock`` and ``unlock``.
    By clients: ``try`` (about to enqueue these `ids`), ``ok`` (enqueued: from now on the queue owes
    them), ``unsure`` (the storage stayed away; they may have been written), ``revoking``,
    ``revoked`` (revoke said True), ``answered`` (the job's answer was read: `token` ended it).
    """

    e: str
    m: int
    """CLOCK_MONOTONIC ns, the same for all processes of this machine."""
    w: int
    """Unix ms."""
    pid: int
    id: str = ""
    ids: list[str] = []
    kind: str = ""
    """Of job: the name of its task."""
    token: int = 0
    attempt: int = 0
    failures: int = 0
    interruptions: int = 0
    crashes: int = 0
    tick: int = 0
    """Unix ms, for periodic jobs."""
    due: int = 0
    """Unix ms before which the job must not start."""
    name: str = ""
    """Of a lock; of the state that an answer told."""


class Fault(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One injected fault, written down when it is over (or when the run ends)."""

    kind: str
    begin: int
    """CLOCK_MONOTONIC ns before it was injected."""
    end: int
    """... after it was healed: for a kill, when the process was seen dead."""
    healed: int = 0
    """... when the next daemon was started, or the storage answered again."""
    killed: list[int] = []
    """Processes that it ended."""
    frozen: list[int] = []
    """Processes that it stopped for a while."""
    storage: bool = False
    """The storage did not serve between begin and end."""
    scheduler: bool = False
    """The node's lease may not have been renewed between begin and end."""
    drains: bool = False
    """The daemon was told to stop: what outlasts the grace is interrupted."""
    forgets_s: float = 0.0
    """What the storage confirmed so many seconds before `begin` may be forgotten."""
    took_hold: str = ""
    """How it was seen that the fault really happened."""


class Ended(msgspec.Struct):
    """What the storage says of one job after the quiet period."""

    state: str
    """"done", "dead", "cancelled"; "queued", "scheduled", "running" for a job that is stuck; "" for
    one that is not known."""
    token: int = 0
    attempts: int = 0
    reason: str = ""
    told: str = ""
    """The job that its answer names, where its kind answers with its own id."""
    dead_letter: bool = False
    """It is among the dead letters, with its raw payload."""


class Rules(msgspec.Struct, frozen=True):
    """What the run was set up to allow."""

    lease_s: float = 5.0
    grace_s: float = 6.0
    batch: int = 128
    """Outcomes that one dying worker may not have told: its batch, and what ran meanwhile."""
    loss: bool = False
    """A storage that was emptied is part of the plan: then nothing that was in it is owed."""


class Final(msgspec.Struct):
    """What was found when all faults were healed, the queues drained and the daemon stopped."""

    jobs: dict[str, Ended] = {}
    queues: dict[str, list[int]] = {}
    """Queue -> [queued, scheduled, running], for those that still hold something."""
    nodes: list[str] = []
    leftovers: list[str] = []
    processes: list[str] = []
    """Processes of the daemon that outlived it."""
    deaths: list[int] = []
    """Pids of all workers that the daemon itself reported as crashed."""
    recovered: list[tuple[str, int]] = []
    """(job, Unix ms) for each time that the daemon said that it had taken a job back."""
    ticks_until: int = 0
    """Unix ms: a daemon was there to fire ticks until then."""
    rules: Rules = Rules()


class Ledger:
    """Appends lines to one file; used by one process (it is opened again after a fork)."""

    def __init__(self, path: Path | str) -> None:
        self._path = os.fspath(path)
        self._fd = -1
        self._owner = 0

    def write(self, event: str, **facts: object) -> Line:
        line = Line(
            e=event,
            m=time.monotonic_ns(),
            w=time.time_ns() // 1_000_000,
            pid=os.getpid(),
            **facts,  # type: ignore[arg-type]
        )
        self.append(line)
        return line

    def append(self, line: msgspec.Struct) -> None:
        if self._owner != os.getpid():
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd, self._owner = os.open(self._path, flags, 0o600), os.getpid()
        os.write(self._fd, b"\n" + msgspec.json.encode(line) + b"\n")


def read_lines(path: Path) -> tuple[list[Line], int]:
    """Return the lines in the order in which they were written, and how many were torn."""
    decode = msgspec.json.Decoder(Line).decode
    lines, torn = [], 0
    for raw in path.read_bytes().splitlines() if path.exists() else []:
        if raw:
            try:
                lines.append(decode(raw))
            except msgspec.DecodeError:
                torn += 1
    return lines, torn


def read_faults(path: Path) -> list[Fault]:
    decode = msgspec.json.Decoder(Fault).decode
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [decode(line) for line in lines if line]


class Evidence(msgspec.Struct):
    """All that a checker judges by."""

    jobs: Sequence[Line]
    clients: Sequence[Line]
    faults: Sequence[Fault]
    final: Final
    torn: int = 0


def read_evidence(folder: Path) -> Evidence:
    jobs, torn = read_lines(folder / JOBS)
    clients, torn_too = read_lines(folder / CLIENTS)
    final = msgspec.json.decode((folder / FINAL).read_bytes(), type=Final)
    return Evidence(jobs, clients, read_faults(folder / FAULTS), final, torn + torn_too)

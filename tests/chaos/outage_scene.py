"""Two daemons on one storage, of which each reaches it by a way of its own; see outages.py."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from taskqd import State
from taskqd.errors import ResultMissing, StorageError
from taskqd.jobs.job import split_record
from tests.chaos.apps import outage_workload as workload
from tests.chaos.apps.outage_workload import PLACES, app
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.checks.outage_checks import Round, broken
from tests.chaos.faults.absences import CUT_OFF, FAILED_OVER, WAYS
from tests.chaos.faults.removable import Removable, opened
from tests.chaos.ledger import JOBS, Line, read_lines
from tests.chaos.world import wait_for
from tests.support.rigs.daemon import Daemon, Fact

LONGER_S = 4.0
"""Jobs that run through the outage outlast it by so much."""
DAEMONS = 2
UNENDED = (State.QUEUED, State.SCHEDULED, State.RUNNING, State.DEAD)
TAKEN_BACK_S = 3.0
"""A node that is heard again has its crashes taken back within so long."""
READY_S = 120.0
DRAIN_S = 240.0
SLOTS = {"process": (12, 1), "thread": (2, 8), "greenlet": (2, 8), "asyncio": (2, 8)}
"""Workers of each daemon, and jobs that each runs at a time."""


class Scene:
    """Use as a context manager; `stop` says how the daemons ended."""

    def __init__(self, folder: Path, storage: str, kind: str, lease_s: float) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True)
        self._storage_kind, self._kind, self._lease_s = storage, kind, lease_s
        self._open = contextlib.ExitStack()
        self._storage: Removable
        self._daemons: list[Daemon] = []
        self._owed: dict[str, str] = {}

    def __enter__(self) -> Scene:
        with contextlib.ExitStack() as stack:
            made = opened(self._storage_kind, self.folder, DAEMONS)
            self._storage = stack.enter_context(made)
            stack.callback(self._end_all)
            app.close()
            app._url = self._storage.url
            for number in range(DAEMONS):
                self._daemons.append(self._daemon(number).start())
            for daemon in self._daemons:
                daemon.wait("worker.ready", count=SLOTS[self._kind][0], timeout_s=READY_S)
            self._open = stack.pop_all()
        return self

    def _daemon(self, number: int) -> Daemon:
        workers, places = SLOTS[self._kind]
        argv = [sys.executable, "-m", "taskqd", "tests.chaos.apps.outage_workload:app"]
        argv += ["--workers", str(workers), "--worker-type", self._kind, "--name", f"d{number}"]
        argv += ["--health", "off", "--log-format", "json", "--log-level", "debug"]
        argv += ["--concurrency", str(places)] if self._kind != "process" else []
        folder = self.folder / f"daemon{number}"
        env = {
            "TASKQD_STORAGE": self._storage.url_of(number),
            "TASKQD_STORAGE__NODE_LEASE_S": str(self._lease_s),
            "TASKQD_ADMIN__SOCKET": str(folder / "admin.sock"),
            LEDGER_ENV: str(self.folder / JOBS),
        }
        return Daemon(folder, argv, env=env)

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _end_all(self) -> None:
        for daemon in self._daemons:
            for process in daemon.alive():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if daemon.process:
                daemon.process.wait()
        app.close()

    def stop(self) -> list[str]:
        """Stop the daemons; return what was wrong with their end."""
        codes = [daemon.stop() for daemon in self._daemons]
        left = [str(row) for row in app.storage.leftovers()]
        return [f"a daemon exited with {code}" for code in codes if code] + left

    # -- one outage ----------------------------------------------------------------------------

    def round(self, way: str, seconds: float) -> tuple[int, float, list[str]]:
        """Return how many jobs it was, after how long work went on, and which laws are broken."""
        logged = [len(daemon.events()) for daemon in self._daemons]
        self._owed = {}
        self._enqueue(seconds, alone=way == CUT_OFF)
        self._wait_begun()
        cut_off = self._pids(self._daemons[0]) if way == CUT_OFF else frozenset()
        end = WAYS[self._storage_kind][way](self._storage, seconds)
        if way != FAILED_OVER:
            time.sleep(seconds)
        end()
        returned_ns = time.monotonic_ns()
        again_s = self._first_start_s(returned_ns)
        self._storage.wait_settled()
        blamed = self._blamed() if cut_off else {}
        self._drain()
        seen = Round(
            self._owed, self._states(), self._lines(), self._log(logged), PLACES, cut_off, blamed
        )
        return len(self._owed), again_s, list(broken(seen))

    def _enqueue(self, seconds: float, *, alone: bool) -> None:
        """Jobs that run through the outage, jobs that end in its midst, and what follows them.

        `alone`: one daemon is cut off, so that a job that is to run at most once may be given up
        while it runs there.  Its end counts when it arrives, but what follows it was told before.
        """
        steps = (workload.long,) if alone else (workload.long, workload.once)
        through_s = seconds + LONGER_S
        for for_s in (through_s, seconds / 2):
            self._owe("long", workload.long(for_s).id)
            self._owe("once", workload.once(for_s).id)
            for task in steps:
                first, second = app.enqueue(task.s(for_s).then(workload.then, 1.0))
                self._owe(task.name, first.id)
                self._owe("next", second.id)
            chord = app.enqueue(
                app.chord([task.s(for_s) for task in (*steps, *steps)], workload.total)
            )
            self._owe("sum", chord.id)
            for task, member in zip((*steps, *steps), chord.results, strict=True):
                self._owe(task.name, member.id)
        for _ in range(2):
            self._owe("locked", workload.locked(through_s / 2).id)
        for _ in range(3):
            self._owe("few", workload.few(through_s / 2).id)

    def _owe(self, kind: str, job_id: str) -> None:
        self._owed[job_id] = kind

    def _wait_begun(self) -> None:
        count = sum(kind in ("long", "once") for kind in self._owed.values())
        wait_for(lambda: self._begun() >= count, "the jobs begin", READY_S)

    def _begun(self) -> int:
        mine = {line.id for line in self._lines() if line.e == "begin"}
        return len(mine & {job for job, kind in self._owed.items() if kind in ("long", "once")})

    def _pids(self, daemon: Daemon) -> frozenset[int]:
        return frozenset(process.pid for process in daemon.alive())

    def _first_start_s(self, returned_ns: int) -> float:
        """Enqueue a short job; return after how long from then it began."""
        job = _patiently(lambda: workload.short(1).id)
        self._owe("short", job)
        wait_for(lambda: any(line.id == job for line in self._lines()), "work again", READY_S)
        began = next(line.m for line in self._lines() if line.id == job)
        return (began - returned_ns) / 1e9

    def _log(self, since: list[int]) -> list[Fact]:
        """Return what the daemons have logged but for their first so many lines."""
        return [e for d, at in zip(self._daemons, since, strict=True) for e in d.events()[at:]]

    def _blamed(self) -> dict[str, int]:
        """Return the crashes that jobs still count when who was cut off has been heard again."""
        wait_for(lambda: len(app.nodes()) == DAEMONS, "who was cut off is heard again", READY_S)
        until_s = time.monotonic() + TAKEN_BACK_S
        while (found := self._crashes()) and time.monotonic() < until_s:
            time.sleep(0.05)
        return found

    def _crashes(self) -> dict[str, int]:
        rows = [row for state in UNENDED for row in app.storage.jobs(state)]
        counted = {row.id: split_record(row.record)[0].crashes for row in rows}
        return {job: crashes for job, crashes in counted.items() if crashes and job in self._owed}

    def _drain(self) -> None:
        wait_for(lambda: not _left(), "the jobs end", DRAIN_S)
        # What is left of nobody's is what daemons say of it a moment later.
        wait_for(lambda: len(app.nodes()) == len(self._daemons), "all nodes serve", READY_S)

    def _states(self) -> dict[str, str]:
        return {job: _state_of(job) for job in self._owed}

    def _lines(self) -> list[Line]:
        lines, _ = read_lines(self.folder / JOBS)
        return [line for line in lines if line.id in self._owed]


def _state_of(job: str) -> str:
    """Return what the storage says of it, "" where it does not know it."""
    try:
        return str(app.result(job).state)
    except ResultMissing:
        return ""


def _patiently(call: Callable[[], str]) -> str:
    while True:
        try:
            return call()
        except StorageError:
            time.sleep(0.01)


def _left() -> int:
    rows = app.storage.queues()
    return sum(row.queued + row.scheduled + row.running for row in rows)


__all__ = ["Fact", "Scene"]

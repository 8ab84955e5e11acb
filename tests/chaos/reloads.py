"""Reloads under load: no job may be lost or fail, and work may not stand still.

`make reloads COUNT=200` or `python -m tests.chaos.reloads --count 200`; prints what it measured and
exits with 1 where a promise was broken.  The judge is a ledger outside of the storage: each job
writes its number, and how fast that grows is the throughput.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.apps.changing import Changing, command
from tests.support.rigs.daemon import Daemon
from tests.support.servers.storages import open_backend
from tests.support.waiting import wait_until

BACKLOG = 100
"""So many jobs wait at any time, so that a pause is never for want of work."""
JOB_S = 0.005
SETTLED_S = 120.0
GAP_S_MAX = 1.0
BAD = ("reload.aborted", "worker.crashed", "worker.hung", "job.failed", "job.retried", "job.dead")


class Report(NamedTuple):
    reloads: int
    jobs: int
    lost: int
    repeated: int
    faults: dict[str, int]
    """Events of the log that should not be there, by name."""
    gap_s: float
    """The longest time in which no job ended."""
    jobs_per_s: float
    reload_s: float
    """Median."""
    reload_s_max: float
    version: int
    """Of the code that answers at the end."""

    @property
    def clean(self) -> bool:
        as_asked = self.version == self.reloads + 1
        return not self.lost and not self.repeated and not self.faults and as_asked


class Load:
    """Keeps the queue filled, and looks at the ledger all the time."""

    def __init__(self, app: Changing) -> None:
        self._app = app
        self._over = threading.Event()
        self.sent = 0
        self.done = 0
        self.gap_s = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=part) for part in (self._send, self._watch)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        while not self._over.is_set():
            missing = self.done + BACKLOG - self.sent
            if missing > 0:
                self._app.write.map([(self.sent + n, JOB_S) for n in range(missing)])
                self.sent += missing
            self._over.wait(0.01)

    def _watch(self) -> None:
        """A byte count is cheap, and each line is one job."""
        grown_s = time.monotonic()
        size = 0
        while not self._over.wait(0.01):
            now_s, text = time.monotonic(), self._tail(size)
            if text:
                self.done += text.count(b"\n")
                size += len(text)
                # The first job comes when the daemon is up.
                self.gap_s = max(self.gap_s, now_s - grown_s) if self.done > BACKLOG else 0.0
                grown_s = now_s

    def _tail(self, start: int) -> bytes:
        if not self._app.ledger.exists():
            return b""
        with self._app.ledger.open("rb") as file:
            file.seek(start)
            return file.read()


def run(folder: Path, url: str, count: int, *, workers: int = 2) -> Report:
    app = Changing(folder, url)
    daemon = app.daemon(workers={"count": workers})
    daemon._argv = command(level="info")
    load = Load(app)
    times_s: list[float] = []
    with daemon:
        daemon.wait("master.ready")
        begun_s = time.monotonic()
        with load.running():
            wait_until(lambda: load.done > 2 * BACKLOG, timeout_s=SETTLED_S, what="the load")
            for number in range(1, count + 1):
                app.write_source(number + 1)
                times_s.append(_reload(daemon))
        took_s = time.monotonic() - begun_s
        wait_until(lambda: _written(app) >= load.sent, timeout_s=SETTLED_S, failing=False)
        version = app.runs()
        daemon.stop()
    app.close()
    written = Counter(app.written())
    return Report(
        reloads=count,
        jobs=load.sent,
        lost=sum(n not in written for n in range(load.sent)),
        repeated=sum(times > 1 for times in written.values()),
        faults={name: found for name in BAD if (found := len(daemon.events(name)))},
        gap_s=round(load.gap_s, 3),
        jobs_per_s=round(load.done / took_s),
        reload_s=round(statistics.median(times_s), 3),
        reload_s_max=round(max(times_s), 3),
        version=version,
    )


def _written(app: Changing) -> int:
    return app.ledger.read_bytes().count(b"\n")


def _reload(daemon: Daemon) -> float:
    """Return how long it took."""
    begun_s = time.monotonic()
    number = daemon.ask("reload")["number"]
    wait_until(lambda: daemon.ask("reload", number=number)["done"], timeout_s=60, what="a reload")
    return time.monotonic() - begun_s


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--storage", choices=("sqlite", "redis", "valkey"), default="sqlite")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="taskqd-reloads-") as name:
        folder = Path(name)
        with open_backend(given.storage, folder) as backend:
            report = run(folder, backend.url, given.count, workers=given.workers)
    facts: dict[str, Any] = {"storage": given.storage, "workers": given.workers}
    print(json.dumps(facts | report._asdict()))
    broken = not report.clean or report.gap_s > GAP_S_MAX
    if broken:
        print("a promise is broken: lost, repeated, faults, version or gap_s", file=sys.stderr)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())

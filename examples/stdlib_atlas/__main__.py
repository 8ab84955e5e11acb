"""The demonstration: `make demo`, or `STORAGE=redis python -m examples.stdlib_atlas`.

While the jobs run, a busy worker is killed and the daemon is restarted; at the end the ledger that
the jobs wrote tells whether anything was lost.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path

from taskqd import ResultGroup
from taskqd.storage.base import QueueRow

from .ledger import Account
from .measure import Atlas, FileFacts
from .show import Bar, closing_line, report
from .stage import Stage, StageError

DEADLINE_S = 300.0
KILL_AT, RESTART_AT = 0.25, 0.5


def main() -> int:
    library = sysconfig.get_path("stdlib")
    storage = os.environ.get("STORAGE") or "sqlite"
    try:
        with Stage(storage) as stage:
            return play(stage, library)
    except StageError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def play(stage: Stage, library: str) -> int:
    from . import tasks  # after the stage has said where the storage is

    paths = source_files(library)[: int(os.environ.get("ATLAS_FILES_MAX") or sys.maxsize)]
    print(f"{len(paths)} files, {stage.workers} workers, storage {stage.storage}", file=sys.stderr)
    stage.start_daemon()
    began = time.monotonic()
    results = tasks.measure.map(paths)
    watch(stage, results)
    folded = tasks.report(results.get(timeout=60))
    atlas: Atlas = folded.get(timeout=60)
    took_s = time.monotonic() - began
    stage.stop_daemon()
    account = stage.ledger.account([result.id for result in [*results, folded]])
    left = waiting_jobs(tasks.app.counts().values())
    strays = len(stage.strays())
    tasks.app.close()
    print(report(atlas, library))
    print(f"{took_s:.1f} s; left in the storage: {left} jobs; processes left: {strays}")
    print(closing_line(account))
    return verdict(account, left, strays)


def source_files(library: str) -> list[str]:
    """Return every source file of the standard library, and nothing that was installed into it."""
    foreign = {"site-packages", "dist-packages"}
    found = Path(library).rglob("*.py")
    return sorted(str(path) for path in found if foreign.isdisjoint(path.parts))


def watch(stage: Stage, results: ResultGroup[FileFacts]) -> None:
    """Follow the ledger until every job has ended; kill and restart on the way."""
    bar = Bar(len(results))
    acts = [(RESTART_AT, restart), (KILL_AT, kill)]
    deadline = time.monotonic() + DEADLINE_S
    while (done := stage.ledger.ended()) < len(results):
        stage.check_daemon()
        if time.monotonic() > deadline:
            raise StageError(f"{len(results) - done} jobs have not ended within {DEADLINE_S:g} s")
        bar.show(done)
        if acts and done >= acts[-1][0] * len(results) and acts[-1][1](stage, bar):
            acts.pop()
        time.sleep(0.02)
    bar.show(len(results))


def kill(stage: Stage, bar: Bar) -> bool:
    """Return whether a busy worker was found, and killed."""
    pid = stage.kill_worker()
    if pid is not None:
        bar.say(f"SIGKILL to worker {pid}, in the middle of a job")
    return pid is not None


def restart(stage: Stage, bar: Bar) -> bool:
    took_s = stage.stop_daemon()
    bar.say(f"SIGTERM to the daemon: exit 0 after {took_s:.2f} s; starting another")
    stage.start_daemon()
    return True


def waiting_jobs(rows: Iterable[QueueRow]) -> int:
    return sum(row.queued + row.scheduled + row.running + row.dead for row in rows)


def verdict(account: Account, left: int, strays: int) -> int:
    return 0 if account.lost == left == strays == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

"""How long a job of a killed worker, or of a killed daemon, waits until it runs again."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

from taskqd.settings import Settings

from . import observe
from .drain import storage_url
from .meter import Meter
from .side import Side, environment, taskqd_side
from .table import markdown


def run(storage: str, worker_type: str, times: int) -> str:
    """Return the Markdown report."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, _server),
    ):
        place = Path(folder, "meter")
        Meter(place)
        os.environ |= environment(url, place)
        from .sides.taskqd_app import app, survive

        side, waits_ms = taskqd_side(worker_type), []
        for number in range(times):
            note = Path(folder, f"note-{number}")
            # A fresh daemon each time: of many kills in a row, it would take the later ones for a
            # crash loop and wait before it starts another worker.
            with side.workers(2, dict(os.environ), Path(folder, "daemon.log")):
                result = survive(str(note))
                observe.wait_for("the first attempt", note.exists, 30)
                killed_ns = time.monotonic_ns()
                os.kill(int(note.read_text()), signal.SIGKILL)
                waits_ms.append((result.get(timeout=30) - killed_ns) / 1e6)
        app.close()
    waits_ms.sort()
    rows = [["median", f"{waits_ms[times // 2]:.0f}"], ["longest", f"{waits_ms[-1]:.0f}"]]
    title = f"SIGKILL of a busy {worker_type} worker on {storage}, {times} times"
    return f"{title}\n\n{markdown(['', 'ms until its job runs again'], rows)}"


def run_host(storage: str, worker_type: str, times: int) -> str:
    """Return the Markdown report of daemons that die whole, while another one lives."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        storage_url(storage, Path(folder)) as (url, _server),
    ):
        place = Path(folder, "meter")
        Meter(place)
        os.environ |= environment(url, place)
        side = taskqd_side(worker_type)
        waits_s = sorted(_after_death(side, Path(folder), number) for number in range(times))
    lease_s = Settings().storage.node_lease_s
    rows = [
        ["shortest", f"{waits_s[0]:.2f}"],
        ["median", f"{waits_s[times // 2]:.2f}"],
        ["longest", f"{waits_s[-1]:.2f}"],
    ]
    title = f"SIGKILL of a whole daemon on {storage}, {times} times; a lease is {lease_s:g} s"
    return f"{title}\n\n{markdown(['', 's until its job runs on another daemon'], rows)}"


def _after_death(side: Side, folder: Path, number: int) -> float:
    """Kill a daemon that runs a job; return after how many seconds another one has begun it."""
    from .sides.taskqd_app import app, survive

    note, log, own = folder / f"host-{number}", folder / "daemon.log", dict(os.environ)
    with contextlib.ExitStack() as stack:
        with (
            contextlib.suppress(RuntimeError),
            side.named(f"dies-{number}").workers(1, own, log) as root,
        ):
            result = survive(str(note))
            observe.wait_for("the first attempt", note.exists, 60)
            stack.enter_context(side.named(f"lives-{number}").workers(1, own, log))
            observe.wait_for("both daemons", lambda: len(app.nodes()) == 2, 60)
            doomed = [process.pid for process in observe.tree(root)]
            killed_ns = time.monotonic_ns()
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        waited_s = (result.get(timeout=120) - killed_ns) / 1e9
    app.close()
    return waited_s

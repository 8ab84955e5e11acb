"""What 8 workers of an app of 100 MB take: forked from one import, or each with its own."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import observe
from .contender import Contender
from .side import ROOT, environment
from .table import markdown

WORKERS = 8
BOOT_S = 60.0
APP = "benchmarks.sides.heavy_app:app"
_START = "from taskqd.supervisor.cli.main import main; main()"


def run() -> str:
    """Return the Markdown report."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        bare_mb = _imported_mb()
        rows = [
            _row("taskqd: imported once, frozen, forked", _taskqd(), place, _jobs(place)),
            _row("gunicorn: each worker imports it", _gunicorn(place), place, _requests(place)),
            _row(
                "gunicorn --preload: imported once, forked",
                _gunicorn(place, "--preload"),
                place,
                _requests(place),
            ),
        ]
    head = ["", "processes", "PSS of all, MB", "RSS of all, MB"]
    title = (
        f"{WORKERS} workers of an app of {bare_mb:.0f} MB (a process that has imported it, with its interpreter); each has"
        " run `gc.collect()` and read 1,000 of its objects. gunicorn is what it is on PyPI, with its"
        " sync workers."
    )
    return f"{title}\n\n{markdown(head, rows)}"


def _imported_mb() -> float:
    """Return what a process takes that does nothing but import the app's data."""
    code = (
        "import benchmarks.sides.heavy;"
        "print(next(l.split()[1] for l in open('/proc/self/smaps_rollup') if l[:4] == 'Pss:'))"
    )
    return int(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) * 1024 / 1e6


def _taskqd() -> Contender:
    options = ("--workers", str(WORKERS), "--health", "off", "--log-level", "warning")
    command = (sys.executable, "-c", _START, APP, *options)
    return Contender("taskqd", "taskqd", (), command, "", "", "")


def _gunicorn(place: Path, *options: str) -> Contender:
    command = (
        *("{bin}/python", "-m", "gunicorn", "benchmarks.sides.heavy_wsgi:app"),
        *("--workers", str(WORKERS), "--bind", f"unix:{place}/gunicorn.sock"),
        *("--log-level", "warning", *options),
    )
    return Contender("gunicorn", "gunicorn", ("gunicorn",), command, "", "", "")


def _row(label: str, contender: Contender, place: Path, ask: Callable[[], set[int]]) -> list[str]:
    """Start the workers, have each at work, measure."""
    contender.install()
    seen: set[int] = set()

    def all_have_worked() -> bool:
        seen.update(ask())
        return len(seen) >= WORKERS

    env = environment(f"sqlite:///{place}/memory.db", place)
    with contender.workers(env, place / "log") as running:
        observe.wait_for(f"{WORKERS} workers of {label}", all_have_worked, BOOT_S, every_s=0.05)
        processes = observe.tree(*(process.pid for process in running))
        pss, rss = (
            observe.pss_bytes(processes),
            sum(observe.rss_bytes(process.pid) for process in processes),
        )
    version = f" ({contender.version()})" if contender.distributions else ""
    return [f"{label}{version}", str(len(processes)), f"{pss / 1e6:.0f}", f"{rss / 1e6:.0f}"]


def _jobs(place: Path) -> Callable[[], set[int]]:
    """Return what has jobs run and returns the pids of the workers that ran them."""
    os.environ |= environment(f"sqlite:///{place}/memory.db", place)
    from .sides.heavy_app import touch

    def ask() -> set[int]:
        results = list(touch.map(() for _ in range(4 * WORKERS)))
        return {result.get(timeout=BOOT_S) for result in results}

    return ask


def _requests(place: Path) -> Callable[[], set[int]]:
    def ask() -> set[int]:
        pids: set[int] = set()
        for _ in range(4 * WORKERS):
            connection = http.client.HTTPConnection("localhost", timeout=BOOT_S)
            connection.sock = socket.socket(socket.AF_UNIX)
            try:
                connection.sock.connect(f"{place}/gunicorn.sock")
            except OSError:
                # It does not listen yet.
                return pids
            connection.request("GET", "/")
            pids.add(int(connection.getresponse().read()))
            connection.close()
        return pids

    return ask

"""One kind of worker under test: a daemon over `matrix_app`, its callers, and what must hold."""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from taskqd import App
from taskqd.client.result import Result
from tests.support.apps.changing import command, constant
from tests.support.apps.run_log import RunLog
from tests.support.rigs.daemon import Daemon, settings_json
from tests.support.waiting import HANG_S, wait_until

KINDS: dict[str, dict[str, Any]] = {
    "process": {"count": 2},
    "thread": {"count": 2, "type": "thread", "concurrency": 4},
    "greenlet": {"count": 2, "type": "greenlet", "concurrency": 4},
    "asyncio": {"count": 2, "type": "asyncio", "concurrency": 4},
}
DOUBLES_MAX = 8
"""As many as there are slots: so many jobs can have ended, unheard, when a worker is killed."""
GRACE_S = 3
IN_TIME_S = GRACE_S + 7.0
"""With room for a machine that others load, on which processes start and end late."""
IMPORT_S = 15.0
LOAD_S = 0.02

SOURCE = """
import os, signal, time
from tests.support.apps.matrix_app import app
{extra}

@app.task(name="version")
def version():
    return {version}
"""


class Yard:
    """A folder with the app's source, its ledger, and the caller's side."""

    def __init__(self, folder: Path, url: str, kind: str) -> None:
        self.kind = kind
        self.folder = folder / "daemon"
        self.folder.mkdir()
        self.ledger = RunLog(folder / "ledger")
        self.url = url
        self.sent: list[str] = []
        self.write_source()
        self.app = App("matrix", storage=url)
        coroutines = kind == "asyncio"
        names = ("work", "hold", "culprit", "version")
        self._tasks = {
            name: self.app.task(name=f"a{name}" if coroutines and name != "version" else name)(stub)
            for name, stub in zip(names, (_two, _one, _two, _none), strict=True)
        }
        self._numbers = itertools.count()

    # -- the daemon ------------------------------------------------------------------------------

    def write_source(self, version: int = 1, extra: str = "") -> None:
        (self.folder / "jobs.py").write_text(SOURCE.format(version=version, extra=extra))

    def daemon(self, env: dict[str, str] | None = None, **changes: Any) -> Daemon:
        """Return one that is not started; the last one's log goes on in another file."""
        log = self.folder / "log.jsonl"
        if log.exists():
            log.rename(self.folder / f"log.{next(self._numbers)}.jsonl")
        chosen = {
            "app": "jobs:app",
            "storage": {"url": self.url, "durability": "memory", "connect_wait_s": 60},
            "workers": KINDS[self.kind],
            "shutdown": {"grace_s": GRACE_S},
            **changes,
        }
        (self.folder / "settings.json").write_text(settings_json(self.folder, **chosen))
        return Daemon(
            self.folder,
            command(constant("policy.reload.IMPORT_S", IMPORT_S)),
            # A module that is rewritten within a second looks unchanged to its cached bytecode.
            env={"LEDGER": str(self.ledger.path), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        )

    @contextmanager
    def open(self, **changes: Any) -> Iterator[Daemon]:
        """Run a daemon, ready; at the end it holds as many descriptors as at the beginning."""
        with self.daemon(**changes) as daemon:
            daemon.wait("master.ready")
            wait_until(lambda: daemon.ask("status")["ready"] == 2, what="two workers")
            held = descriptors(daemon.pid)
            yield daemon
            if daemon.process is not None and daemon.process.poll() is None:
                self.tidy(daemon, held)
                self.stop(daemon)

    def tidy(self, daemon: Daemon, held: int) -> None:
        """Two workers serve; no zombie, no descriptor and no thread is left in the master."""
        wait_until(lambda: daemon.ask("status")["ready"] == 2, what="two workers again")
        wait_until(lambda: descriptors(daemon.pid) <= held, what=f"{held} descriptors")
        wait_until(lambda: not zombies(daemon.pid), what="no zombies")
        assert psutil.Process(daemon.pid).num_threads() == 1

    def stop(self, daemon: Daemon, *signals: str, in_s: float = IN_TIME_S) -> None:
        """Stop it: exit code 0, in time, and neither a process nor a socket is left."""
        for count, name in enumerate(signals or ("SIGTERM",), 1):
            daemon.send(name)
            if signals:
                daemon.wait("signal.received", signal=name, count=count)
        assert daemon.exit_code() == 0
        self.gone(daemon)
        # Measured by the daemon itself: a busy machine starts and reaps processes late.
        assert daemon.events("master.stopped")[-1]["took_s"] < in_s

    def gone(self, daemon: Daemon) -> None:
        assert daemon.no_process_is_left(), daemon.alive()
        assert not os.path.exists(daemon.socket)

    # -- the caller's side -----------------------------------------------------------------------

    def send(self, count: int, seconds: float = 0.0) -> list[str]:
        keys = [f"k{next(self._numbers)}" for _ in range(count)]
        for key in keys:
            self._tasks["work"](key, seconds)
        self.sent += keys
        return keys

    def hold(self, count: int) -> list[str]:
        """Enqueue jobs that end at their second attempt, and wait until they run."""
        keys = [f"h{next(self._numbers)}" for _ in range(count)]
        for key in keys:
            self._tasks["hold"](key)
        self.sent += keys
        self.ledger.wait_begun(keys)
        return keys

    def culprit(self, how: str) -> Result[Any]:
        return self._tasks["culprit"](f"c{next(self._numbers)}", how)

    def version(self) -> int:
        number: int = self._tasks["version"]().get(timeout=HANG_S)
        return number

    @contextmanager
    def load(self) -> Iterator[None]:
        """Send short jobs all the time."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(LOAD_S):
                self.send(1, LOAD_S)

        client = threading.Thread(target=run)
        client.start()
        try:
            yield
        finally:
            over.set()
            client.join()

    def all_done(self, doubles_max: int = 0) -> None:
        """Each job has ended, and none twice beyond what is unavoidable."""
        self.ledger.wait_done(self.sent)
        doubled = self.ledger.doubled()
        assert len(doubled) <= doubles_max, f"ended twice: {sorted(doubled)}"

    def attempts(self, keys: Iterable[str]) -> set[int]:
        begun = self.ledger.count("begin")
        return {begun[key] for key in keys}

    def child(self) -> int:
        """Return the pid that a job has forked."""
        lines = self.ledger.path.read_text
        forked = wait_until(
            lambda: re.findall(r"^child fork (\d+)", lines(), re.MULTILINE), "a fork"
        )
        return int(forked[0])

    def close(self) -> None:
        self.app.close()


def _none() -> Any: ...
def _one(key: str) -> Any: ...
def _two(key: str, what: Any) -> Any: ...


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def zombies(pid: int) -> list[int]:
    found = []
    for child in psutil.Process(pid).children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found

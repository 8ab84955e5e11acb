"""An app whose source changes while its daemon runs, and the caller's side of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from taskqd import App
from tests.support.rigs.daemon import Daemon, Fact, settings_json
from tests.support.waiting import HANG_S

SOURCE = """
import os, signal, time
from taskqd import App, current_job

app = App("changing")
{extra}

@app.task(name="version")
def version() -> int:
    return {version}

@app.task(name="write")
def write(n: int, seconds: float) -> int:
    if current_job().attempt == 1:
        time.sleep(seconds)
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{{n}}\\n".encode())
    os.close(fd)
    return {version}

@app.task(name="aside", queue={queue!r})
def aside() -> int:
    return {version}
"""

RUN = """
import sys
from pathlib import Path
from taskqd.supervisor.host import signals
signals.install()
from taskqd import settings
from taskqd.logs import setup as log
from taskqd.supervisor.master import Master
{changes}
read = lambda: settings.decode(Path("settings.json").read_text())
chosen = read()
out = log.configure(role="master", level="{level}", format="json", file=chosen.log.file)
argv = [sys.executable, "-m", "taskqd.worker.zygote"]
sys.exit(Master(chosen, log=out, zygote_argv=argv, reload_settings=read).run())
"""


def command(*changes: str, level: str = "debug") -> list[str]:
    """Return what starts a daemon of `settings.json`; `changes` are statements, run before it."""
    return [sys.executable, "-c", RUN.format(changes="\n".join(changes), level=level)]


def constant(name: str, value: float) -> str:
    """Return the statement that changes a constant, `policy.faults.WORKER_BEAT_S` say, which must exist."""
    module, _, word = name.rpartition(".")
    where = f"taskqd.supervisor.{module}"
    return f"import {where}; {where}.{word}; {where}.{word} = {value}"


class Changing:
    """A folder with the app's source and the daemon's settings."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder / "daemon"
        self.folder.mkdir()
        self.url = url
        self.ledger = self.folder / "ledger"
        self.write_source()
        self.app = App("changing", storage=url)
        self.version = self.app.task(name="version")(_version)
        self.write = self.app.task(name="write")(_write)

    def write_source(self, version: int = 1, extra: str = "", queue: str = "default") -> None:
        text = SOURCE.format(version=version, extra=extra, queue=queue)
        (self.folder / "changing.py").write_text(text)

    def write_settings(self, **changes: Any) -> None:
        storage = {"url": self.url, "durability": "memory", "connect_wait_s": 60}
        changes = {"app": "changing:app", "storage": storage, **changes}
        (self.folder / "settings.json").write_text(settings_json(self.folder, **changes))

    def daemon(self, *constants: str, env: dict[str, str] | None = None, **changes: Any) -> Daemon:
        """Return one that is not started; `constants` as `constant` makes them."""
        self.write_settings(**changes)
        return Daemon(
            self.folder,
            command(*constants),
            # A module that is rewritten within a second looks unchanged to its cached bytecode.
            env={"LEDGER": str(self.ledger), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
        )

    def runs(self) -> int:
        """Return the version that answers."""
        return self.version().get(timeout=HANG_S)

    def written(self) -> list[int]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [int(line) for line in lines]

    def close(self) -> None:
        self.app.close()


def _version() -> int:
    raise AssertionError("a daemon runs it")


def _write(n: int, seconds: float) -> int:
    raise AssertionError("a daemon runs it")


def zygotes(daemon: Daemon) -> list[int]:
    return [process.pid for process in daemon.alive() if "zygote" in _title(process)]


def _title(process: psutil.Process) -> str:
    """Return its title, "" for one that has ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def workers(daemon: Daemon) -> list[Fact]:
    rows = daemon.ask("status")["workers"]
    return [row for row in rows if row["state"] == "ready"]


def in_settings(daemon: Daemon, **changes: Any) -> None:
    """Change top-level keys of the settings that the next reload reads."""
    path = daemon.folder / "settings.json"
    chosen = json.loads(path.read_text())
    for key, value in changes.items():
        chosen[key] = {**chosen[key], **value} if isinstance(chosen.get(key), dict) else value
    path.with_suffix(".new").write_text(json.dumps(chosen))
    os.replace(path.with_suffix(".new"), path)

"""One side of a comparison: how its workers and its producer are started and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .meter import METER_ENV

ROOT = Path(__file__).parents[1]


class Side(NamedTuple):
    name: str
    python: Path
    command: tuple[str, ...]
    """Starts the workers; `{workers}` is replaced by their number."""

    def named(self, name: str) -> Side:
        """Return this side as another instance of its daemon."""
        return self._replace(command=(*self.command, "--name", name))

    def version(self) -> str:
        code = f"import importlib.metadata as m; print(m.version({self.name!r}))"
        try:
            return subprocess.check_output([self.python, "-c", code], text=True, cwd="/").strip()
        except subprocess.CalledProcessError:
            return "(checkout)"

    def produce(self, environment: dict[str, str], *words: object) -> dict[str, Any]:
        command = [str(self.python), "-m", "benchmarks.sides.produce", self.name]
        done = subprocess.run(
            [*command, *map(str, words)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=120,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextlib.contextmanager
    def workers(self, number: int, environment: dict[str, str], log: Path) -> Iterator[int]:
        """Run the workers; yields the pid of the root of their tree."""
        command = [word.format(workers=number) for word in self.command]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process.pid
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended early:\n{log.read_text()[-2000:]}")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment(url: str, meter: Path, **more: str) -> dict[str, str]:
    own = {"BENCH_REDIS": url, "TASKQD_STORAGE": url, METER_ENV: str(meter)}
    return {**os.environ, **own, "XDG_RUNTIME_DIR": str(meter.parent), **more}


def taskqd_side(worker_type: str = "process", log_level: str = "warning") -> Side:
    python = Path(sys.executable)
    beside = python.with_name("taskqd")
    start = (
        (str(beside),)
        if beside.exists()
        else (str(python), "-c", "from taskqd.supervisor.cli.main import main; main()")
    )
    options = ("--workers", "{workers}", "--worker-type", worker_type, "--health", "off")
    app = "benchmarks.sides.taskqd_app:app"
    return Side("taskqd", python, (*start, app, *options, "--log-level", log_level))


def huey_side(folder: Path) -> Side:
    """Return Huey in an environment of its own, made in `folder` if it is not there."""
    python = folder / "bin/python"
    if not python.exists():
        print(f"installing Huey into {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = ["-m", "pip", "install", "-q", "huey>=3.5", "redis<9", "hiredis"]
        subprocess.run([str(python), *install], check=True, stdin=subprocess.DEVNULL)
    consumer = (str(python), "-m", "huey.bin.huey_consumer", "benchmarks.sides.huey_app.huey")
    return Side("huey", python, (*consumer, "-k", "process", "-w", "{workers}", "-q"))

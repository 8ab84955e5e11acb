"""A queue in one configuration, in an environment of its own: installed, started, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .side import ROOT, Side

ENVIRONMENTS = ROOT / "var/bench/peers"
STOP_WAIT_S = 15.0


class Contender(NamedTuple):
    """One row of the comparison."""

    label: str
    side: str
    """Names the module `benchmarks.sides.<side>_app` with its jobs and its producer."""
    distributions: tuple[str, ...]
    """What is installed from PyPI, the queue itself first; () for this checkout."""
    command: tuple[str, ...]
    """Starts workers; `{bin}` is the environment's folder of programs, `{copy}` a number, `{url}` the
    server's."""
    setup: str
    """The configuration in words."""
    guarantee: str
    acknowledgement: str
    copies: int = 1
    """How often the command is started."""
    processes: int = 2
    """Processes that run jobs, over all copies."""
    jobs: int = 20_000
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.side.partition("_")[0]

    @property
    def python(self) -> Path:
        return self.folder / "bin/python" if self.distributions else Path(sys.executable)

    def install(self) -> None:
        """Make the environment, unless it is there with just these distributions."""
        wanted = "\n".join(self.distributions)
        stamp = self.folder / "distributions.txt"
        if not self.distributions or (stamp.exists() and stamp.read_text() == wanted):
            return
        print(f"installing {', '.join(self.distributions)}", file=sys.stderr, flush=True)
        venv.create(self.folder, with_pip=True, clear=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", *self.distributions]
        subprocess.run(pip, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stamp.write_text(wanted)

    def version(self) -> str:
        """Return the installed version of the queue."""
        if not self.distributions:
            return "checkout"
        name = self.distributions[0].partition("[")[0].partition(">")[0]
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return subprocess.check_output([self.python, "-c", code], text=True, cwd="/").strip()

    def producer(self) -> Side:
        return Side(self.side, self.python, ())

    def start(
        self, copy: int, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start one copy of the command, in a process group of its own."""
        words = {"bin": self.python.parent, "copy": copy, "url": environment["BENCH_REDIS"]}
        with log.open("ab") as output:
            return subprocess.Popen(
                [word.format(**words) for word in self.command],
                cwd=ROOT,
                env={**environment, **dict(self.environment)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    @contextlib.contextmanager
    def workers(
        self, environment: Mapping[str, str], log: Path
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Start all copies; the caller may replace items of the list, all of which are stopped."""
        running = [self.start(copy, environment, log) for copy in range(self.copies)]
        try:
            yield running
            ended = [process for process in running if process.poll() is not None]
            if ended:
                raise RuntimeError(f"{self.label} ended early:\n{log.read_text()[-2000:]}")
        finally:
            stop(running)


def stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

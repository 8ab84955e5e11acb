"""The log: what it costs to import it, what it writes, and what it does when nobody reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from taskqd.execution.current_job import SlotLike
from taskqd.jobs.job import Lease, Outcome
from taskqd.logs import events
from taskqd.logs.setup import Log, configure
from taskqd.storage.memory import MemoryStorage
from tests.support.rigs.worker_rig import Jobs, WorkerRig, entries
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]


def in_fresh_interpreter(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_master_imports_neither_asyncio_nor_ssl_nor_rich() -> None:
    loaded = in_fresh_interpreter(
        "import json, sys, taskqd.supervisor.cli.main, taskqd.supervisor.master;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    dear = {"asyncio", "ssl", "greenlet", "rich", "redis", "apsw", "psutil", "email", "http"}
    assert not dear & set(loaded)
    assert "structlog" in loaded


def test_the_master_s_imports_fit_in_25_megabytes() -> None:
    rss_kb = in_fresh_interpreter(
        "import json, taskqd.supervisor.cli.main, taskqd.supervisor.master;"
        "rss = [line for line in open('/proc/self/status') if line.startswith('VmRSS')][0];"
        "print(json.dumps(int(rss.split()[1])))"
    )
    assert rss_kb * 1024 <= 25e6


def test_asyncio_is_the_real_one_for_users_after_structlog_was_imported() -> None:
    code = """
import json, sys, taskqd.logs.setup
before = "asyncio" in sys.modules
import asyncio, structlog, structlog.stdlib
async def tell():
    await structlog.wrap_logger(structlog.ReturnLogger(), processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(0)).ainfo("x")
    return type(structlog.stdlib.asyncio.get_running_loop()).__name__
loop = asyncio.run(tell())
print(json.dumps([before, asyncio.__file__.endswith("asyncio/__init__.py"), "Loop" in loop]))
"""
    assert in_fresh_interpreter(code) == [False, True, True]


def test_structlog_s_asyncio_works_where_nobody_else_has_imported_it() -> None:
    code = """
import json, sys, taskqd.logs.setup, structlog
get = structlog.stdlib.asyncio.get_running_loop
print(json.dumps([get.__name__, "asyncio" in sys.modules]))
"""
    assert in_fresh_interpreter(code) == ["get_running_loop", True]


FACTS = {
    "job_id": "j1",
    "task": "shop.pay",
    "queue": "q",
    "attempt": 1,
    "run_ms": 0.5,
    "wait_ms": 3,
}


def log_to(path: Path, **options: Any) -> Log:
    return configure(role="worker", file=str(path), **{"format": "json", **options}, worker=7)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def blur(line: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time>", line)


@pytest.mark.parametrize("error", ["plain", "tab\t\x1b[31m \x00 \ud800", "é" * 20_000])
def test_the_quick_line_is_the_slow_line(tmp_path: Path, error: str) -> None:
    out = log_to(tmp_path / "log")
    facts = {**FACTS, "error": error.encode(errors="replace").decode(), "odd": {1, 2}}
    out.emit(events.JOB_RETRIED, **facts)
    out.emit_soon(events.JOB_RETRIED, facts)
    out.bind(generation=3).emit_soon(events.JOB_DONE, facts)
    slow, quick, bound = (tmp_path / "log").read_text().splitlines()
    assert blur(quick) == blur(slow) != slow
    assert list(json.loads(bound))[:7] == [
        *("timestamp", "level", "event", "role", "pid", "worker", "generation")
    ]


def test_a_quick_line_to_the_journal_has_its_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    info = os.fstat(writer)
    monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
    out = configure(role="worker", fd=writer, format="json")
    out.emit(events.JOB_RETRIED, **FACTS)
    out.emit_soon(events.JOB_RETRIED, FACTS)
    slow, quick = os.read(reader, 65536).decode().splitlines()
    assert blur(quick) == blur(slow)
    assert quick.startswith("<4>{")


def test_lines_that_are_held_come_out_before_the_next_event(tmp_path: Path) -> None:
    out = log_to(tmp_path / "log")
    out.holds = True
    out.emit_soon(events.JOB_DONE, FACTS)
    assert lines_of(tmp_path / "log") == []
    out.emit(events.STORAGE_LOST, error="x")
    out.emit_soon(events.JOB_DONE, FACTS)
    out.flush()
    assert [line["event"] for line in lines_of(tmp_path / "log")] == [
        *("job.done", "storage.lost", "job.done")
    ]


def test_the_level_holds_for_quick_lines_too(tmp_path: Path) -> None:
    out = log_to(tmp_path / "log", level="warning")
    out.emit_soon(events.JOB_DONE, FACTS)
    out.emit_soon(events.JOB_RETRIED, FACTS)
    assert [line["event"] for line in lines_of(tmp_path / "log")] == ["job.retried"]


class Told(Jobs):
    """Jobs that leave a line, as real ones do."""

    def __init__(self, out: Log) -> None:
        super().__init__()
        self.out = out

    def run(self, lease: Lease, place: SlotLike) -> Outcome:
        outcome = super().run(lease, place)
        self.out.emit_soon(events.JOB_DONE, {**FACTS, "job_id": lease.id})
        return outcome


class Auditor(MemoryStorage):
    """Looks into the log whenever it is told of an outcome."""

    def __init__(self, log: Path) -> None:
        super().__init__("test", world=uuid.uuid4().hex)
        self.log = log
        self.settled: set[str] = set()
        self.unlogged: set[str] = set()

    def _look(self, outcomes: Sequence[Outcome]) -> None:
        ids = {outcome.id for outcome in outcomes}
        self.settled |= ids
        self.unlogged |= ids - {line["job_id"] for line in lines_of(self.log)}

    def turn(self, worker: str, outcomes: Sequence[Outcome], *rest: Any, **more: Any) -> Any:
        self._look(outcomes)
        return super().turn(worker, outcomes, *rest, **more)

    def settle(self, worker: str, outcomes: Sequence[Outcome]) -> Any:
        self._look(outcomes)
        return super().settle(worker, outcomes)


@pytest.mark.parametrize("threads", [0, 3])
def test_a_job_is_in_the_log_before_the_storage_hears_that_it_is_done(
    tmp_path: Path, threads: int
) -> None:
    out = log_to(tmp_path / "log")
    out.holds = True
    storage = Auditor(tmp_path / "log")
    storage.enqueue(entries(300))
    with WorkerRig(storage, jobs=Told(out), threads=threads, out=out):
        wait_until(lambda: len(storage.settled) == 300, "300 jobs settled")
    assert storage.unlogged == set()
    assert len(lines_of(tmp_path / "log")) == 300


def read_all(fd: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(fd, 65536):
            data += chunk
    except BlockingIOError:
        return data
    return data

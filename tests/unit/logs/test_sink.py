"""Where lines go: pipes that are shared, full, or read by nobody; files that are forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskqd.logs import events
from taskqd.logs import sink as log_sink
from taskqd.logs.setup import configure
from taskqd.logs.sink import Sink

ROOT = Path(__file__).parents[3]
FACTS = {
    "job_id": "j1",
    "task": "shop.pay",
    "queue": "q",
    "attempt": 1,
    "run_ms": 0.5,
    "wait_ms": 3,
}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_all(fd: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(fd, 65536):
            data += chunk
    except BlockingIOError:
        return data
    return data


def test_lines_of_processes_that_share_a_pipe_stay_whole() -> None:
    reader, writer = os.pipe()
    code = (
        "import sys; from taskqd.logs import events, setup as log;"
        f"facts = {FACTS!r}; out = log.configure(role='worker', fd={writer}, format='json');"
        "out.holds = True;"
        "[(out.emit_soon(events.JOB_DONE, {'n': n, **facts}), n % 64 or out.flush())"
        " for n in range(3000)]; out.flush()"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, pass_fds=[writer]) for _ in "123"
    ]
    os.close(writer)
    with os.fdopen(reader) as pipe:
        seen = [json.loads(line)["n"] for line in pipe]
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    assert sorted(seen) == sorted([*range(3000)] * 3)


def test_a_reader_that_has_stopped_costs_lines_and_no_wait_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_sink, "WAIT_S", 0.05)
    reader, writer = os.pipe()
    out = configure(role="worker", fd=writer, format="json")
    for _ in range(2000):
        out.emit_soon(events.JOB_DONE, FACTS)
    os.set_blocking(reader, False)
    early = read_all(reader)
    out.emit_soon(events.JOB_DONE, FACTS)
    first, told = map(json.loads, read_all(reader).splitlines())
    assert (first["event"], told["event"]) == ("job.done", "log.dropped")
    assert told["lines"] == 2000 - len(early.splitlines()) > 0
    assert all(json.loads(line)["event"] == "job.done" for line in early.splitlines())


def test_the_descriptor_that_others_share_stays_as_it_was() -> None:
    _, writer = os.pipe()
    configure(role="worker", fd=writer, format="json").emit(events.STORAGE_LOST, error="x")
    assert os.get_blocking(writer)


def test_a_line_that_was_cut_short_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sink, "WAIT_S", 0.05)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    out = Sink(writer)
    for line in (b"x" * 100_000 + b"\n", b"after\n"):
        out.add(line)
        out.flush()
    assert out.dropped == 2
    cut = read_all(reader)
    out.add(b"whole\n")
    out.flush()
    assert (cut + read_all(reader)).split(b"\n")[1:] == [b"whole", b""]
    assert len(cut) < 100_000


def test_a_forked_child_writes_its_own_lines_only(tmp_path: Path) -> None:
    code = f"""
import os
from taskqd.logs.sink import Sink, open_file
out = Sink(open_file({str(tmp_path / "log")!r}))
out.add(b"parent\\n")
out._writing.acquire()
if (pid := os.fork()) == 0:
    out.add(b"child\\n")
    out.flush()
    os._exit(0)
os.waitpid(pid, 0)
out._writing.release()
out.flush()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, timeout=60, check=True)
    assert (tmp_path / "log").read_text() == "child\nparent\n"


def test_a_log_that_nobody_reads_any_more_is_no_error() -> None:
    reader, writer = os.pipe()
    out = Sink(writer)
    os.close(reader)
    out.add(b"x\n")
    out.flush()
    assert out.dropped == 1

"""What gevent replaces in the standard library must be bound by our own threads before that."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from taskqd.worker.host import native_threads

ROOT = Path(__file__).parents[2]
USERS_SIDE = {
    "worker/slots/thread_slots.py",  # never in one process with gevent
    "worker/slots/timer.py",  # nor its thread
    "worker/slots/process_slots.py",
    "worker/slots/greenlets/patch.py",
}


LIST = """
import json, sys, gevent.monkey
gevent.monkey.patch_all()
names = {module: sorted(kept) for module, kept in gevent.monkey.saved.items() if module[0] != "_"}
json.dump(names, sys.stdout)
"""


@pytest.fixture(scope="module")
def replaced() -> dict[str, list[str]]:
    """Module -> names in it that gevent replaces."""
    pytest.importorskip("gevent")
    done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, check=True, timeout=60)
    names: dict[str, list[str]] = json.loads(done.stdout)
    assert "sleep" in names["time"]
    return names


def test_no_thread_of_ours_looks_up_what_gevent_replaces(replaced: dict[str, list[str]]) -> None:
    files = [
        *(ROOT / "worker").rglob("*.py"),
        *(ROOT / "taskqd/storage/sqlite").rglob("*.py"),
        ROOT / "taskqd/storage/redis/link/blocking_reads.py",
        *(ROOT / "taskqd/ipc").glob("*.py"),
    ]
    assert len(files) > 40, "the files of the worker have moved: look there"
    strays = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for file in files
        if (name := file.relative_to(ROOT).as_posix()) not in USERS_SIDE
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr in replaced.get(node.value.id, ())
    ]
    assert not strays


def test_an_event_wakes_its_waiter_and_can_be_used_again() -> None:
    event = native_threads.NativeEvent()
    assert not event.wait(0)
    thread = native_threads.Thread(lambda: event.wait(20))
    thread.start()
    assert not thread.join(0)
    event.set()
    event.set()
    assert thread.join(20)
    assert event.is_set()
    event.clear()
    assert not event.wait(0.001)


def test_a_thread_of_ours_is_known_as_long_as_it_runs() -> None:
    seen: list[bool] = []
    thread = native_threads.Thread(lambda: seen.append(native_threads.is_ours()))
    thread.start()
    assert thread.join(20)
    assert seen == [True]
    with native_threads.claimed():
        assert native_threads.is_ours()
    assert not native_threads.is_ours()

"""Many at once: every job is leased exactly once, and no error of contention reaches a user."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.apps.drainer import drain
from tests.support.rigs.rig import Rig, ack
from tests.support.servers.storages import Backend
from tests.support.waiting import HANG_S

JOBS = [f"j{number:04}" for number in range(2000)]


def _at_once(count: int, work: Callable[[int], None]) -> None:
    """Run `work` in `count` threads; their first error is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S * 3)
    if errors:
        raise errors[0]


def test_threads_drain_each_job_once(backend: Backend, rig: Rig) -> None:
    rig.put(*JOBS)
    ran: list[str] = []

    def work(number: int) -> None:
        ran.extend(drain(backend.url, rig.storage.namespace, f"n.{number}"))

    _at_once(4, work)
    assert Counter(ran) == Counter(JOBS)
    assert rig.states() == {}


def test_processes_drain_each_job_once(backend: Backend, rig: Rig) -> None:
    if not backend.crosses_processes:
        pytest.skip("memory is of one process")
    rig.put(*JOBS)
    arguments = [
        sys.executable,
        "-m",
        "tests.support.apps.drainer",
        backend.url,
        rig.storage.namespace,
    ]
    children = [
        subprocess.Popen([*arguments, f"n.{number}"], stdout=subprocess.PIPE) for number in range(3)
    ]
    outputs = [child.communicate(timeout=HANG_S * 3)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert Counter(name for output in outputs for name in json.loads(output)) == Counter(JOBS)
    assert rig.states() == {}


def test_sixteen_writers_at_once_lose_nothing(backend: Backend, rig: Rig) -> None:
    def work(number: int) -> None:
        handle = backend.open(rig.storage.namespace)
        mine = Rig(handle, registered=True)
        for round_ in range(10):
            mine.put(f"w{number}-{round_}")
            leases = mine.lease(worker=f"n.{number}")
            assert mine.settle(*map(ack, leases), worker=f"n.{number}") == [True] * len(leases)
        handle.close()

    _at_once(16, work)
    while leases := rig.lease(50):
        rig.settle(*map(ack, leases))
    asked = [(f"w{number}-{round_}", "q") for number in range(16) for round_ in range(10)]
    assert None not in rig.storage.answers(asked)
    assert rig.states() == {}


def test_two_recoveries_at_once_give_each_job_back_once(backend: Backend, rig: Rig) -> None:
    rig.register("gone", lease_s=0.01)
    names = [f"g{number}" for number in range(200)]
    rig.put(*names)
    for number in range(20):
        rig.lease(10, worker=f"gone.{number}")
    recovered: list[str] = []

    def work(number: int) -> None:
        handle = backend.open(rig.storage.namespace)
        for _ in range(200):
            recovered.extend(row.id for row in handle.recover(["q"]))
            if len(recovered) >= len(names):
                break
        handle.close()

    while len(recovered) < len(names):
        _at_once(4, work)
    assert Counter(recovered) == Counter(names)
    assert rig.counts() == (200, 0, 0, 0)

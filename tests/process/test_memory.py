"""Memory that runs short, in a control group with a limit: the daemon acts before the kernel does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskqd.errors import JobDead
from taskqd.settings import MIB
from taskqd.supervisor.host.cgroup import MemoryGroup
from tests.support.apps.changing import Changing, constant
from tests.support.machines.cgroups import inside, memory_group, subgroups
from tests.support.rigs.daemon import Daemon
from tests.support.servers.storages import open_backend
from tests.support.waiting import HANG_S, wait_until

GROW = """
kept = []

@app.task(name="grow", max_crashes=1)
def grow(mib: int, seconds: float) -> int:
    kept.append(b"x" * (mib * 1024 * 1024))
    time.sleep(seconds)
    return os.getpid()
"""
MARKS = {"memory_recycle_percent": 50, "memory_hold_percent": 70, "memory_stop_percent": 80}
LIMIT_BYTES = 600 * MIB
SHORT = r"memory: [89]\d % of 600 MiB used"
"""As seen while the job still takes more."""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Changing]:
    with open_backend("sqlite", tmp_path) as backend:
        changing = Changing(tmp_path, backend.url)
        changing.write_source(1, GROW)
        changing.app.task(name="grow", max_crashes=1)(lambda mib, seconds: 0)
        yield changing
        changing.close()


def daemon_in(app: Changing, group: MemoryGroup, **changes: Any) -> Daemon:
    daemon = app.daemon(constant("policy.memory.SERVED_S", 0.5), **changes)
    daemon._argv = inside(group, daemon._argv)
    return daemon


def grow(app: Changing, mib: int, seconds: float = 0.0) -> Any:
    return app.app.registry.get("grow")(mib, seconds)


def test_before_memory_runs_out_an_idle_worker_is_replaced_and_then_a_busy_one_killed(
    app: Changing,
) -> None:
    with memory_group(LIMIT_BYTES) as group:
        with daemon_in(app, group, limits=MARKS) as daemon:
            daemon.wait("master.ready")
            used = daemon.ask("status")["memory"]
            assert (used["limit_bytes"], used["held"]) == (LIMIT_BYTES, False)
            room = int(LIMIT_BYTES - used["used_bytes"]) // MIB
            fat = grow(app, int(room * 0.55)).get(timeout=HANG_S)
            recycled = daemon.wait("worker.recycled")
            assert recycled["reason"].startswith("memory: ")
            assert "% of 600 MiB used" in recycled["reason"]
            wait_until(lambda: fat not in daemon.worker_pids(), what="the fat worker to go")
            assert daemon.events("worker.exited", child_pid=fat, exit_code=0)

            greedy = grow(app, int(room * 0.85), 60.0)
            crashed = daemon.wait("worker.crashed")
            assert re.match(SHORT, crashed["verdict"])
            with pytest.raises(JobDead, match=rf"poisoned.*{SHORT}"):
                greedy.get(timeout=HANG_S)
            assert app.runs() == 1
            wait_until(lambda: not daemon.ask("status")["memory"]["held"], what="leasing to go on")
            assert group.kills() == 0
            assert daemon.stop() == 0
        assert daemon.events("memory.short")


def test_a_worker_over_the_limit_of_its_own_group_is_killed_alone(app: Changing) -> None:
    with memory_group(LIMIT_BYTES) as group:
        with daemon_in(app, group, workers={"memory_limit_bytes": 64 * MIB}) as daemon:
            daemon.wait("master.ready")
            if daemon.events("worker_groups.missing"):
                pytest.skip(daemon.events("worker_groups.missing")[0]["reason"])
            before = daemon.worker_pids()
            greedy = grow(app, 200, 1.0)
            crashed = daemon.wait("worker.crashed")
            own = "killed by SIGKILL: out of memory, its own limit of 64 MiB"
            assert (crashed["cause"], crashed["verdict"]) == ("oom", own)
            with pytest.raises(JobDead, match="its own limit of 64 MiB"):
                greedy.get(timeout=HANG_S)
            assert app.runs() == 1
            wait_until(lambda: len(set(before) & set(daemon.worker_pids())) == 1)
            assert daemon.stop() == 0
        left = [path for path in subgroups(group) if path.name != "taskqd"]
        assert not left
        for path in subgroups(group):
            path.rmdir()

"""A full disk refuses new jobs and lets those it holds end."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd import App
from taskqd.errors import QueueFull
from taskqd.execution.runner import Runner
from taskqd.ipc import board
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.storage import open_storage
from taskqd.storage.sqlite import SqliteStorage
from tests.support.rigs.rig import Rig, ack, done, entry, outcome
from tests.support.rigs.worker_rig import WorkerRig
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system of 16 MB needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(rig: Rig, prefix: str) -> list[str]:
    """Enqueue until it is refused; returns the ids that were accepted."""
    accepted: list[str] = []
    while True:
        batch = [f"{prefix}{len(accepted) + number}" for number in range(50)]
        jobs = [entry(job_id)._replace(payload=b'{"t":"' + b"x" * 1000 + b'"}') for job_id in batch]
        try:
            assert all(rig.storage.enqueue(jobs))
        except QueueFull:
            return accepted
        accepted += batch


def _drain(rig: Rig, *, told: bool = True) -> list[str]:
    ran: list[str] = []
    while leases := rig.lease(64):
        ends = [ack(lease, done(lease.token) + b" " * 100 if told else b"") for lease in leases]
        ends[0] = outcome(leases[0], "bury", answer=b"", reason="failed")
        ends[-1] = outcome(leases[-1], "ack", answer=b"")
        assert rig.settle(*ends) == [True] * len(ends)
        ran += [lease.id for lease in leases]
    return ran


def _take_the_rest(folder: Path) -> Path:
    """Another program fills what is left of the disk."""
    ballast = folder / "ballast"
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, b"\0" * 4096)
    except OSError:
        os.close(fd)
    return ballast


def test_jobs_end_on_a_full_disk_and_new_ones_come_when_there_is_room(small_disk: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{small_disk}/a.db", "app"))
    accepted = _fill(rig, "a")
    assert len(accepted) > 2000
    ballast = _take_the_rest(small_disk)
    with pytest.raises(QueueFull, match="free some disk space"):
        rig.put("refused")
    leases = rig.lease(30, worker="n.9")
    rig.storage.recover_worker("n.9", ["q"], running=[leases[0].token], how="orphaned")
    leases = rig.lease(30)
    assert all(rig.storage.release("n.1", [(job.id, job.queue, job.token) for job in leases]))
    assert rig.storage.heartbeat("n", ["q"], 600)
    assert _drain(rig) == accepted
    assert set(rig.states().values()) == {"dead"}
    ballast.unlink()
    assert rig.put("new") == [True]
    rig.storage.purge_dead()
    rig.storage.purge(["q"], dead_ttl_s=100, dead_max=100)
    assert list(rig.storage.leftovers()) == []
    assert isinstance(rig.storage, SqliteStorage)
    assert rig.storage._db.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("once", [False, True])
def test_a_stage_that_ended_on_a_full_disk_ran_again_until_the_next_one_had_room(
    small_disk: Path, once: bool
) -> None:
    app = App("app", f"sqlite:///{small_disk}/a.db")
    ran: list[str] = []
    gate = threading.Event()

    @app.task(name="first", at_most_once=once)
    def first(n: int) -> int:
        ran.append("first")
        assert gate.wait(HANG_S)
        return n

    @app.task(name="second")
    def second(n: int) -> int:
        ran.append("second")
        return n

    results = app.enqueue(first.s(5).then(second))
    runner = Runner(app, LimitSettings(), configure(role="test", level="critical"))
    with WorkerRig(
        app.open_storage(), jobs=runner, queues=("default",), beside=app.open_storage()
    ) as rig:
        wait_until(lambda: ran)
        ballast = _take_the_rest(small_disk)
        gate.set()
        wait_until(lambda: rig.row.behind(board.SETTLING) == 1)
        assert "disk space" in rig.settling.error
        ballast.unlink()
        assert results[1].get(timeout=HANG_S) == 5
        assert results[0].get(timeout=HANG_S) == 5
    assert ran == ["first", "second"]
    app.close()


def test_a_disk_full_of_our_own_jobs_takes_new_ones_after_a_drain(small_disk: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{small_disk}/a.db?synchronous=normal", "app"))
    for round_ in "abc":
        accepted = _fill(rig, round_)
        assert len(accepted) > 500
        assert _drain(rig) == accepted
        rig.storage.purge_dead()


def test_a_bound_on_the_file_refuses_new_jobs(tmp_path: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db?max_mb=2&synchronous=normal", "app"))
    accepted = _fill(rig, "a")
    assert (tmp_path / "a.db").stat().st_size < 4 * 1024 * 1024
    assert _drain(rig, told=False) == accepted
    assert len(_fill(rig, "b")) > 100


def test_without_room_for_the_reserve_nothing_new_is_taken(small_disk: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{small_disk}/a.db", "app"))
    ballast = _take_the_rest(small_disk)
    with pytest.raises(QueueFull):
        rig.put("refused")
    assert any("reserve" in text for text in rig.storage.warnings())
    ballast.unlink()
    assert rig.put("a") == [True]
    assert not any("reserve" in text for text in rig.storage.warnings())


def test_a_new_storage_has_no_reserve_yet_and_does_not_complain(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/new.db", "test")
    assert not any("reserve" in text for text in storage.warnings())
    storage.close()

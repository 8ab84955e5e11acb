"""The scheduler as a process of its own, on real Redis."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.ipc import board
from taskqd.ipc.messages import (
    Drain,
    Drained,
    Forked,
    Loaded,
    Ready,
    RecoverWorker,
    StorageLost,
    StorageRestored,
    WorkerRecovered,
)
from taskqd.ipc.messages import Retire as RetireNow
from taskqd.jobs.job import Entry, Outcome, State
from taskqd.settings import SchedulerSettings, Settings, StorageSettings
from taskqd.storage import open_storage
from taskqd.storage.base import Node, Storage
from taskqd.worker.host import procfs
from tests.support.rigs.worker_rig import ack
from tests.support.rigs.zygote_rig import Child, ZygoteRig
from tests.support.servers.redis_server import RedisServer, available_servers
from tests.support.waiting import wait_until

APP = """
    from taskqd import App, every
    app = App("shop")

    @app.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b
"""
TICKING = (
    APP
    + """
    @app.periodic_task(every(seconds=1), name="tick")
    def tick() -> None:
        pass
"""
)
Q = ("default",)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    binary = available_servers().get("redis") or available_servers().get("valkey")
    if binary is None:
        pytest.skip("no Redis server on this machine")
    with RedisServer(binary, appendfsync="always") as running:
        yield running


@pytest.fixture
def storage(server: RedisServer) -> Storage:
    return open_storage(server.url, "shop")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    return tmp_path


def rig_of(
    server: RedisServer,
    folder: Path,
    *,
    node: str = "n1",
    lease_s: float = 5.0,
    scheduling: SchedulerSettings | None = None,
) -> ZygoteRig:
    return ZygoteRig(
        Settings(
            app="shop:app",
            storage=StorageSettings(url=server.url, node_lease_s=lease_s),
            scheduler=scheduling or SchedulerSettings(),
        ),
        folder,
        node=node,
    )


def scheduler(rig: ZygoteRig) -> Child:
    rig.hear(Loaded)
    child = rig.spawn("scheduler")
    child.pid = rig.hear(Forked).pid
    child.hear(Ready)
    return child


def job(job_id: str, delay_s: float = 0.0) -> Entry:
    run_at_ms = int((time.time() + delay_s) * 1000) if delay_s else 0
    return Entry(job_id, "default", b'{"t":"add","a":[1,2]}', run_at_ms)


def test_the_node_is_registered_and_its_lease_is_renewed(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder, lease_s=4.0) as rig:
        child = scheduler(rig)
        (row,) = storage.nodes()
        assert row.node.id == "n1"
        assert row.node.pid == os.getpid()
        assert row.node.pid_started == procfs.start_time(os.getpid())
        assert row.node.host == procfs.host_id()
        assert child.title() == "taskqd: scheduler"
        assert child.row.get(board.READY) == 1
        left_s = [storage.nodes()[0].expires_in_s]

        def renewed() -> bool:
            left_s.append(storage.nodes()[0].expires_in_s)
            return left_s[-1] > left_s[-2]

        for _ in range(3):
            wait_until(renewed, "a renewal")
        assert min(left_s) > 0
        beat = child.row.get(board.BEAT)
        wait_until(lambda: child.row.get(board.BEAT) > beat)


def test_a_delayed_job_is_due_on_time_although_it_came_after_the_scheduler_slept(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder) as rig:
        scheduler(rig)
        soon = job("soon", 0.4)
        storage.enqueue([job("later", 600), soon])
        wait_until(lambda: storage.queues()[0].queued == 1)
        assert time.time() * 1000 >= soon.run_at_ms
        row = storage.job("soon", "default")
        assert row is not None
        assert row.state == State.QUEUED


def test_what_a_dead_worker_held_is_taken_back_at_the_masters_word(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder) as rig:
        child = scheduler(rig)
        storage.enqueue([job("a"), job("b"), job("c")])
        leases = storage.lease("n1.7", Q, 3).leases
        started = next(lease for lease in leases if lease.id == "a")
        child.tell(RecoverWorker("n1.7", (started.token,), "orphaned", "killed by SIGKILL"))
        back = child.hear(WorkerRecovered)
        assert (back.worker_id, back.orphaned, back.released, back.interrupted) == ("n1.7", 1, 2, 0)
        assert storage.queues()[0].queued == 3


def test_a_parked_job_of_a_task_that_the_scheduler_knows_is_leased_by_its_workers_alone(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    storage.register(Node("old"), Q, 600)

    def park(name: str) -> None:
        storage.enqueue([job(name)])
        (lease,) = storage.lease("old.1", Q, 1).leases
        end = Outcome(lease.id, "default", lease.token, "bury", reason="unknown", parked="=add")
        assert storage.settle("old.1", [end]) == [True]

    def leased(worker: str) -> list[str]:
        return [lease.id for lease in storage.lease(worker, Q, 5).leases]

    park("early")
    with rig_of(server, folder) as rig:
        scheduler(rig)
        assert wait_until(lambda: leased("n1.1")) == ["early"]
        park("late")
        assert leased("old.1") == []
        assert leased("n1.1") == ["late"]


def test_ticks_fire_once_for_two_daemons(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    (folder / "shop.py").write_text(textwrap.dedent(TICKING))
    with rig_of(server, folder) as one, rig_of(server, folder, node="n2") as two:
        first, second = scheduler(one), scheduler(two)
        wait_until(lambda: storage.queues() and storage.queues()[0].queued >= 3)
        for child in (first, second):
            child.tell(Drain(5))
        ids = [row.id for row in storage.jobs(State.QUEUED, "default")]
        assert len(ids) == len(set(ids))
        ticks = sorted(int(id.partition("@")[2]) for id in ids)
        assert ticks == list(range(ticks[0], ticks[-1] + 1000, 1000))


def test_missed_ticks_fire_once_where_the_settings_say_so(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    (folder / "shop.py").write_text(textwrap.dedent(TICKING.replace("seconds=1", "hours=1")))
    hour = 3600_000
    newest = int(time.time() * 1000) // hour * hour
    if time.time() * 1000 - newest < 90_000:
        newest -= hour  # a tick of this minute is not missed yet
    storage.fire(f"tick@{newest - 5 * hour}", [])
    with rig_of(server, folder, scheduling=SchedulerSettings(missed="once")) as rig:
        scheduler(rig)
        wait_until(lambda: storage.queues() and storage.queues()[0].queued >= 1)
        ids = [row.id for row in storage.jobs(State.QUEUED, "default")]
        assert f"tick@{newest}" in ids
        assert len(ids) <= 2


def test_a_dead_daemon_of_the_same_name_is_recovered_at_once(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    dead = Node("n0", "test@here", procfs.host_id(), 2**22 - 3, 1)
    storage.register(dead, Q, 600)
    storage.enqueue([job("a"), job("b")])
    storage.lease("n0.1", Q, 2)
    with rig_of(server, folder) as rig:
        scheduler(rig)
        wait_until(lambda: storage.queues()[0].queued == 2)
        assert [row.node.id for row in storage.nodes()] == ["n1"]


def test_a_daemon_of_another_name_or_one_that_runs_keeps_its_jobs(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    here, me = procfs.host_id(), os.getpid()
    storage.register(Node("other", "other@here", here, 2**22 - 3, 1), Q, 600)
    storage.register(Node("lives", "test@here", here, me, procfs.start_time(me)), Q, 600)
    storage.enqueue([job("a"), job("b")])
    storage.lease("other.1", Q, 1)
    storage.lease("lives.1", Q, 1)
    with rig_of(server, folder, lease_s=1.0) as rig:
        scheduler(rig)
        time.sleep(1.5)
        assert storage.queues()[0].running == 2


def test_retire_forgets_the_node_and_ends(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder) as rig:
        child = scheduler(rig)
        child.tell(Drain(5))
        child.tell(RetireNow())
        child.hear(Drained)
        assert child.wait() == 0
        assert storage.nodes() == []


def test_term_ends_the_scheduler_and_leaves_the_node_to_its_successor(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder) as rig:
        child = scheduler(rig)
        child.kill(signal.SIGTERM)
        assert child.wait() == 0
        assert [row.node.id for row in storage.nodes()] == ["n1"]
        again = rig.spawn("scheduler")
        again.pid = rig.hear(Forked).pid
        again.hear(Ready)


def test_a_scheduler_without_a_master_waits_for_the_workers_and_recovers_what_they_left(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder, lease_s=3.0) as rig:
        child = scheduler(rig)
        # The test stands for a worker that drains for some time and then dies.
        rig.board.row(0).set(board.PID, os.getpid())
        storage.enqueue([job("a"), job("b")])
        leases = storage.lease("n1.1", Q, 2).leases
        rig.board.row(0).begin(0, leases[0].token, 1, 0, leases[0].id, "add")
        child.socket.close()
        time.sleep(1.5)
        assert storage.queues()[0].running == 2
        rig.board.row(0).set(board.PID, 0)
        assert child.wait() == 0
        assert storage.nodes() == []
        assert storage.queues()[0].queued == 2
        marked = storage.job(leases[0].id, "default")
        assert marked is not None
        assert b"it and its master died" in marked.record


def test_the_node_is_registered_again_after_an_outage_and_in_an_emptied_storage(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    with rig_of(server, folder, lease_s=1.0) as rig:
        child = scheduler(rig)
        with server.client() as client:  # it sleeps in its bell
            wait_until(lambda: client.info()["blocked_clients"] == 1)
        server.kill()
        child.hear(StorageLost)
        time.sleep(0.5)
        server.start()
        child.hear(StorageRestored)
        fresh = open_storage(server.url, "shop")
        wait_until(lambda: [row.node.id for row in fresh.nodes()] == ["n1"])
        fresh.enqueue([job("a", 0.2)])
        wait_until(lambda: fresh.queues()[0].queued == 1)
        with server.client() as client:
            client.flushall()
        wait_until(lambda: [row.node.id for row in fresh.nodes()] == ["n1"])
        leases = fresh.lease("n1.3", Q, 1).leases
        assert leases == []
        fresh.enqueue([job("b")])
        (lease,) = fresh.lease("n1.3", Q, 1).leases
        assert fresh.settle("n1.3", [ack(lease)]) == [True]


def test_the_zone_of_the_settings_is_that_of_tasks_that_name_none(
    server: RedisServer, folder: Path, storage: Storage
) -> None:
    hour = 3600_000
    app = """
        from taskqd import App, crontab
        app = App("shop", timezone="Europe/Rome")

        @app.periodic_task(crontab("0 * * * *"), name="tick")
        def tick() -> None:
            pass
    """
    (folder / "shop.py").write_text(textwrap.dedent(app))
    whole = int(time.time() * 1000) // hour * hour
    storage.fire(f"tick@{whole - 5 * hour}", [])
    settings = SchedulerSettings(missed="all", timezone="Asia/Kathmandu")  # 5 h 45 min ahead
    with rig_of(server, folder, scheduling=settings) as rig:
        scheduler(rig)
        wait_until(lambda: storage.queues() and storage.queues()[0].queued >= 4)
        ids = [row.id for row in storage.jobs(State.QUEUED, "default")]
        assert {int(id.partition("@")[2]) % hour for id in ids} == {15 * 60_000}

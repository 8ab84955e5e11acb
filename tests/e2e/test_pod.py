"""What is in deploy/ as a kubelet would run it: rollout, hook, grace, probes, memory, outages."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps.run_log import SHOP, RunLog
from tests.support.machines.namespaces import ROOT, build_image, cgroup2_root, why_not
from tests.support.machines.pod import Pod, get
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S, wait_until

from .conftest import Shop

BASE = ROOT / "deploy/kustomize/base"
SHORT_LEASE = {"TASKQD_STORAGE__NODE_LEASE_S": 3}
NewPod = Callable[..., Pod]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := why_not():
        pytest.skip(reason)
    if cgroup2_root() is None:
        pytest.skip("needs cgroups of version 2 to be mounted")
    return build_image(tmp_path_factory.mktemp("image") / "root", {"app/shop/tasks.py": SHOP})


@pytest.fixture
def ledger(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "shared/ledger")


@pytest.fixture
def new_pod(image: Path, tmp_path: Path, redis: RedisServer, ledger: RunLog) -> Iterator[NewPod]:
    """Makes pods of the deployment in deploy/; none outlives the test."""
    yaml: Any = pytest.importorskip("yaml")
    deployment = yaml.safe_load((BASE / "deployment.yaml").read_text())
    volumes = {"config": BASE, "storage": tmp_path / "secret"}
    volumes["storage"].mkdir()
    (volumes["storage"] / "storage_url").write_text("unix:///redis/s\n")
    redis.share()
    mounts = {str(ledger.path.parent): "/shared", str(Path(redis.socket).parent): "/redis"}
    pods: list[Pod] = []
    numbers = itertools.count(1)

    def make() -> Pod:
        name = f"taskqd-{next(numbers)}"
        pod = Pod(tmp_path, image, name, deployment, volumes=volumes, mounts=mounts)
        pods.append(pod)
        return pod.set_env(LEDGER="/shared/ledger").hasten()

    yield make
    for pod in pods:
        pod.close()
    with redis.client() as client:
        client.flushall()


# -- the container ---------------------------------------------------------------------------------


def test_the_daemon_is_process_1_without_rights_on_a_read_only_root(new_pod: NewPod) -> None:
    pod = new_pod().start().wait_ready()
    status = Path(f"/proc/{pod.inside.pid}/status").read_text()
    assert Path(f"/proc/{pod.inside.pid}/comm").read_text().startswith("taskqd: master")
    assert "NSpid:\t" in status
    assert status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
    assert "Uid:\t65532\t65532\t65532\t65532" in status
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert pod.exec("touch", "/here").returncode != 0
    assert pod.exec("taskqctl", "probe", "live").stdout == "ready\n"


def test_process_1_reaps_what_its_jobs_leave_behind(new_pod: NewPod) -> None:
    pod = new_pod().start().wait_ready()
    # A shell whose child outlives it: process 1 gets the child, which then ends.
    assert pod.exec("sh", "-c", "sleep 0.2 &").returncode == 0

    def zombies() -> list[int]:
        stats = {pid: _stat(pid) for pid in pod.inside.processes()}
        return [pid for pid, stat in stats.items() if stat in {"Z", "sleep"}]

    wait_until(lambda: not zombies(), "the orphan has ended and is reaped")


def _stat(pid: int) -> str:
    """Return "sleep" for a process of that name, else its state; "" if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, state = text.split("(", 1)[1].rsplit(")", 1)
    return "sleep" if name == "sleep" else state.split()[0]


# -- deletion --------------------------------------------------------------------------------------


def test_a_rollout_under_load_loses_nothing_and_runs_nothing_twice(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    old = [new_pod().start(), new_pod().start()]
    for pod in old:
        pod.wait_ready()
    ordered: list[str] = []
    stop = threading.Event()

    def order() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            ordered.extend(shop.order(f"job-{number}", seconds=0.05))
            time.sleep(0.02)

    load = threading.Thread(target=order)
    load.start()
    try:
        for pod in old:
            new_pod().start().wait_ready()  # maxSurge 1, maxUnavailable 0
            assert pod.delete().wait_gone() == 0
    finally:
        stop.set()
        load.join()
    ledger.wait_done(ordered)
    assert len(ordered) > 20
    assert ledger.doubled() == set()
    assert all("hook ended with 0" in pod.text() for pod in old)


def test_jobs_longer_than_the_grace_are_requeued_in_time(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().set_env(TASKQD_SHUTDOWN__GRACE_S=5).set_grace(15).start().wait_ready()
    ledger.wait_begun(shop.order("long-1", "long-2", seconds=300))
    shop.order("waiting")
    assert pod.delete().wait_gone() == 0
    assert (shop.waiting(), shop.running()) == (3, 0)
    assert pod.events("master.stopped")[0]["interrupted"] == 2


def test_a_grace_that_is_too_short_for_the_daemons_loses_nothing(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().set_env(**SHORT_LEASE).set_grace(3).start().wait_ready()
    keys = shop.order("a", "b", seconds=6)
    ledger.wait_begun(keys)
    assert pod.delete().wait_gone() == 137
    new_pod().set_env(**SHORT_LEASE).start().wait_ready()
    ledger.wait_done(keys)


def test_a_hook_longer_than_the_grace_is_abandoned_and_nothing_is_lost(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().set_env(**SHORT_LEASE).set_grace(2).set_hook("sleep", "300")
    pod.start().wait_ready()
    keys = shop.order("a", "b", seconds=6)
    ledger.wait_begun(keys)
    begun = time.monotonic()
    pod.delete().wait_gone()
    assert time.monotonic() - begun < 20
    assert "hook abandoned" in pod.text()
    new_pod().set_env(**SHORT_LEASE).start().wait_ready()
    ledger.wait_done(keys)


def test_deletion_while_it_still_starts_ends_at_once(new_pod: NewPod) -> None:
    pod = new_pod().start()
    pod.wait(lambda: pod.events("master.started"), "started")
    pod.delete()
    assert pod.wait_gone() == 0


# -- crashes ---------------------------------------------------------------------------------------


def test_a_group_killed_whole_for_memory_loses_nothing(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().set_env(**SHORT_LEASE).start().wait_ready()
    keys = shop.order(*(f"job-{n}" for n in range(12)), seconds=0.5)
    ledger.wait_begun(keys[:2])
    pod.kill_group()
    ledger.wait_done(keys)
    assert pod.exit_codes == [137]
    assert pod.restarts == 1
    assert (shop.waiting(), shop.running()) == (0, 0)


def test_a_stuck_master_is_restarted_by_its_liveness_probe(
    new_pod: NewPod, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().set_env(**SHORT_LEASE).set_grace(3)
    for kind in ("livenessProbe", "readinessProbe"):
        pod.container[kind].update(timeoutSeconds=1)
    pod.start().wait_ready()
    keys = shop.order("a", "b", seconds=8)
    ledger.wait_begun(keys)
    pod.inside.send("SIGSTOP")
    pod.wait(lambda: pod.restarts == 1, "restarted")
    pod.wait_ready()
    ledger.wait_done(keys)
    assert pod.exit_codes == [137]


# -- probes ----------------------------------------------------------------------------------------


def test_an_outage_of_the_storage_costs_readiness_and_no_restart(
    new_pod: NewPod, redis: RedisServer, shop: Shop, ledger: RunLog
) -> None:
    pod = new_pod().start().wait_ready()
    shop.order()
    redis.kill()
    pod.wait(lambda: not pod.ready, "not ready")
    assert get(pod.inside.pid, "/livez", HANG_S)[0] == 200
    redis.start()
    redis.share()
    pod.wait_ready()
    ledger.wait_done(shop.order("after"))
    assert pod.restarts == 0


def test_a_pod_is_not_ready_before_its_app_is_imported_however_long_that_takes(
    new_pod: NewPod,
) -> None:
    pod = new_pod().set_env(SLOW_IMPORT_S=4)
    pod.container["livenessProbe"].update(periodSeconds=0.2, failureThreshold=1)
    pod.start()
    pod.wait(lambda: pod.events("master.started"), "started")
    assert not pod.ready
    pod.wait_ready()
    assert pod.restarts == 0


def test_a_quiet_pod_is_not_ready_but_alive(new_pod: NewPod) -> None:
    pod = new_pod().start().wait_ready()
    assert pod.exec("taskqctl", "quiet").returncode == 0
    pod.wait(lambda: not pod.ready, "not ready")
    assert get(pod.inside.pid, "/livez", HANG_S)[0] == 200
    assert pod.exec("taskqctl", "resume").returncode == 0
    pod.wait_ready()
    assert pod.restarts == 0

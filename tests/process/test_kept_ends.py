"""Real workers of the four kinds: jobs end while their storage takes nothing, or is away, and their daemon stops."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import shop as tasks
from tests.support.rigs.daemon import Daemon
from tests.support.rigs.shop_daemon import Shop, open_shop
from tests.support.servers.redis_server import RedisServer
from tests.support.waiting import HANG_S, wait_until

KINDS = {
    "process": {"count": 3},
    "thread": {"count": 1, "concurrency": 3},
    "greenlet": {"count": 1, "concurrency": 3},
    "asyncio": {"count": 1, "concurrency": 3},
}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(appendfsync="always") as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, server: RedisServer) -> Iterator[Shop]:
    with open_shop(tmp_path, server.url) as opened:
        yield opened


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"type": request.param, **KINDS[request.param]}


def open_gate(shop: Shop) -> None:
    Path(f"{shop.ledger}.gate").touch()


def starts(shop: Shop) -> list[str]:
    """Return what has begun, a name for each start."""
    found = (re.match(r"begin (\w+) pid|(seen \d)", note) for note in shop.notes())
    return sorted(match[1] or match[2] for match in found if match)


def settling(daemon: Daemon) -> int:
    count: int = daemon.ask("status")["settling"]
    return count


def test_pipelines_wait_for_room_at_maxmemory_and_nothing_runs_twice(
    shop: Shop, server: RedisServer, kind: dict[str, Any]
) -> None:
    health = {"bind": "127.0.0.1:0"}
    with shop.open(workers=kind, health=health) as daemon, server.client() as client:
        results = [tasks.app.enqueue(tasks.gated.s(n).then(tasks.seen)) for n in (1, 2)]
        results.append(tasks.app.enqueue(tasks.gated_once.s(3).then(tasks.seen)))
        shop.begun(3)
        client.config_set("maxmemory", 1)
        open_gate(shop)
        wait_until(lambda: settling(daemon) == 3)
        rows = daemon.ask("status")["workers"]
        assert sum(row["settling"] for row in rows) == 3
        page = f"http://127.0.0.1:{daemon.health_port()}/metrics"
        with urllib.request.urlopen(page) as answer:
            assert b"taskqd_jobs_settling 3\n" in answer.read()
        assert starts(shop) == ["gated1", "gated2", "once3"]
        client.config_set("maxmemory", 0)
        assert [result[1].get(timeout=HANG_S) for result in results] == [1, 2, 3]
        wait_until(lambda: settling(daemon) == 0)
        assert daemon.stop() == 0
        begun, over = daemon.events("settling.begun"), daemon.events("settling.over")
        assert len(begun) == len(over) <= len(rows)
        assert "maxmemory" in begun[0]["error"]
        assert not daemon.events("job.requeued")
    assert starts(shop) == ["gated1", "gated2", "once3", "seen 1", "seen 2", "seen 3"]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_stop_while_the_storage_was_away_counted_crashes(
    shop: Shop, server: RedisServer, kind: dict[str, Any], how: str, tmp_path: Path
) -> None:
    """All that its workers held became suspects, and what had ended ran again or was lost."""
    options: dict[str, Any] = {"workers": kind, "env": {"STATE_DIRECTORY": str(tmp_path / "state")}}
    with shop.open(shutdown={"grace_s": 3}, **options) as first:
        results = [tasks.app.enqueue(tasks.gated.s(1).then(tasks.seen))]
        results.append(tasks.app.enqueue(tasks.gated_once.s(2).then(tasks.seen)))
        held = tasks.hold(3)
        shop.begun(3)
        server.kill() if how == "killed" else server.signal(signal.SIGSTOP)
        open_gate(shop)
        # A silent one is given up after five seconds, and asked again: workers are killed while they wait.
        wait_until(lambda: settling(first) == 2)
        assert first.stop() == 0
        assert not first.events("worker.crashed")
        assert not first.events("job.unsettled")
    server.start() if how == "killed" else server.signal(signal.SIGCONT)
    with shop.open(**options) as second:
        assert [result[1].get(timeout=HANG_S) for result in results] == [1, 2]
        assert [result[0].get(timeout=HANG_S) for result in results] == [1, 2]
        history = held.get(timeout=HANG_S)
        assert history == {"attempt": 2, "failures": 0, "interruptions": 1, "crashes": 0}
        assert not second.events("job.orphaned")
        assert second.stop() == 0
    assert starts(shop) == ["3", "3", "gated1", "once2", "seen 1", "seen 2"]
    assert not list((tmp_path / "state").iterdir())


def test_a_worker_that_went_in_an_outage_was_said_to_have_crashed(
    shop: Shop, server: RedisServer, tmp_path: Path
) -> None:
    """Its daemon goes on, and gives its jobs back by its last words once the storage is there."""
    options: dict[str, Any] = {"env": {"STATE_DIRECTORY": str(tmp_path / "state")}}
    options["workers"] = {"type": "thread", "count": 2, "concurrency": 2}
    with shop.open(shutdown={"grace_s": 2}, **options) as daemon:
        ended = [tasks.app.enqueue(tasks.gated_once.s(n).then(tasks.seen)) for n in (1, 2)]
        for n in (3, 4):
            tasks.hold(n)
        pids = shop.begun(4)
        server.kill()
        open_gate(shop)
        wait_until(lambda: settling(daemon) == 2)
        daemon.send("SIGTTOU")
        gone = daemon.wait("worker.exited", cause="unsettled")
        assert gone["child_pid"] in pids
        server.start()
        daemon.send("SIGTTIN")  # Both places of the other one may be taken.
        assert [result[1].get(timeout=HANG_S) for result in ended] == [1, 2]
        assert daemon.stop() == 0
        assert not daemon.events("worker.crashed")
        assert not daemon.events("job.orphaned")
    begun = starts(shop)
    assert (begun.count("once1"), begun.count("once2")) == (1, 1)


def test_a_silent_storage_repeats_no_job_that_has_ended(
    shop: Shop, server: RedisServer, kind: dict[str, Any]
) -> None:
    with shop.open(workers=kind) as daemon:
        chord = tasks.app.chord([tasks.gated.s(1), tasks.gated_once.s(2)], tasks.total)
        result = tasks.app.enqueue(chord)
        shop.begun(2)
        with server.frozen():
            open_gate(shop)
            # The calls of the loop are given up after five seconds.
            wait_until(lambda: settling(daemon) == 2)
        assert result.get(timeout=HANG_S) == 3
        assert daemon.stop() == 0
    assert starts(shop) == ["gated1", "once2"]


def test_killed_with_its_end_unwritten_it_is_not_begun_again(
    shop: Shop, server: RedisServer, kind: dict[str, Any]
) -> None:
    with shop.open(workers=kind) as daemon, server.client() as client:
        results = tasks.app.enqueue(tasks.gated_once.s(1).then(tasks.seen))
        [pid] = shop.begun(1)
        client.config_set("maxmemory", 1)
        open_gate(shop)
        wait_until(lambda: settling(daemon) == 1)
        # It is kept with its job as well, which is what the next worker finds.
        wait_until(lambda: "end" in tasks.app.storage.notes(results[0].id))
        os.kill(pid, signal.SIGKILL)
        daemon.wait("job.orphaned", job_id=results[0].id)
        client.config_set("maxmemory", 0)
        assert results[1].get(timeout=HANG_S) == 1
        assert results[0].get(timeout=HANG_S) == 1
        assert daemon.stop() == 0
    assert starts(shop) == ["once1", "seen 1"]

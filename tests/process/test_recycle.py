"""Workers that have served long enough are replaced, one at a time, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps.changing import Changing, workers
from tests.support.servers.storages import open_backend
from tests.support.waiting import HANG_S, wait_until


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Changing]:
    with open_backend("sqlite", tmp_path) as backend:
        changing = Changing(tmp_path, backend.url)
        yield changing
        changing.close()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_jobs": 10}, "max_jobs"),
        ({"max_age_s": 1.0}, "max_age_s"),
        ({"max_memory_bytes": 1024}, "max_memory"),
    ],
)
def test_a_worker_over_a_limit_is_replaced_before_it_goes(
    app: Changing, limit: dict[str, Any], reason: str
) -> None:
    with app.daemon(workers=limit) as daemon:
        daemon.wait("master.ready")
        before = set(daemon.worker_pids())
        results = [app.write(n, 0.01) for n in range(60)]
        daemon.wait("worker.recycled", count=2)
        assert [result.get(timeout=HANG_S) for result in results] == [1] * 60
        wait_until(lambda: not before & {row["pid"] for row in workers(daemon)})
        assert daemon.ask("status")["wanted"] == 2
        assert daemon.stop() == 0
    assert sorted(app.written()) == list(range(60))
    recycled = daemon.events("worker.recycled")
    assert all(event["reason"].startswith(reason) for event in recycled)
    assert not daemon.events("worker.crashed")
    assert one_at_a_time(daemon.events())


def one_at_a_time(events: list[dict[str, Any]]) -> bool:
    """Return whether each recycled worker had gone before the next was, as the log has it."""
    leaving: set[int] = set()
    for event in events:
        if event["event"] == "worker.recycled":
            if leaving:
                return False
            leaving.add(event["worker"])
        elif event["event"] == "worker.exited":
            leaving.discard(event["worker"])
    return True


def test_workers_of_equal_age_do_not_leave_together(app: Changing) -> None:
    with app.daemon(workers={"count": 3, "max_age_s": 2.0}) as daemon:
        daemon.wait("master.ready")
        daemon.wait("worker.recycled", count=3)
        assert len(workers(daemon)) >= 3
        assert daemon.stop() == 0
    assert one_at_a_time(daemon.events())

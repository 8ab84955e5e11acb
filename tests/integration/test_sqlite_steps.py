"""No transaction changes more than a bounded number of rows, however much there is to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import Outcome
from taskqd.storage import open_storage
from taskqd.storage.features import Revocation
from taskqd.storage.sqlite import SqliteStorage
from taskqd.storage.sqlite.rows.base import STEP_ROWS
from tests.support.rigs.rig import Rig, done

JOBS = 5 * STEP_ROWS + 7
ROWS_MAX = 4 * STEP_ROWS + 10
"""A step changes a job's row a few times, and rows that hang on it."""


class Steps:
    """A storage that notes how many rows each of its transactions has changed."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        storage = open_storage(f"sqlite:///{path}/a.db?synchronous=normal", "app")
        assert isinstance(storage, SqliteStorage)
        self.storage = storage
        self.rig = Rig(storage)
        self.changed: list[int] = []
        connection = storage._connection
        plain = connection.transaction

        def counted(body: Callable[[], Any]) -> Any:
            before = connection._db.total_changes()
            result = plain(body)
            self.changed.append(connection._db.total_changes() - before)
            return result

        monkeypatch.setattr(connection, "transaction", counted)

    def put(self, count: int = JOBS, **fields: Any) -> list[str]:
        names = [f"j{number}" for number in range(count)]
        self.rig.put(*names, **fields)
        return names

    def bury(self, count: int = JOBS, **fields: Any) -> list[str]:
        names = self.put(count)
        leases = self.rig.lease(count)
        for at in range(0, count, 100):
            ends = [
                Outcome(lease.id, "q", lease.token, "bury", reason="failed", **fields)
                for lease in leases[at : at + 100]
            ]
            assert all(self.rig.settle(*ends))
        return names

    def of(self, call: Callable[[], Any]) -> Any:
        """Call, and judge the transactions of this call."""
        self.changed.clear()
        result = call()
        assert self.changed, "nothing was written"
        assert max(self.changed) <= ROWS_MAX, self.changed
        return result


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(tmp_path, monkeypatch)


def test_enqueue_in_steps(steps: Steps) -> None:
    assert steps.of(lambda: sum(steps.rig.put(*(f"j{n}" for n in range(5000))))) == 5000


def test_purge_of_a_queue_in_steps(steps: Steps) -> None:
    steps.put()
    assert steps.of(lambda: steps.storage.purge_queue("q")) == JOBS
    assert steps.rig.counts() == (0, 0, 0, 0)


def test_dead_letters_over_their_bound_go_in_steps(steps: Steps) -> None:
    """All over the bound went in one transaction: 500,000 locked others out for 2.8 s (B10)."""
    steps.bury()
    purged = steps.of(lambda: steps.storage.purge(["q"], dead_ttl_s=1000, dead_max=3))
    assert purged == JOBS - 3
    assert steps.rig.counts() == (0, 0, 0, 3)


def test_all_dead_letters_are_purged_in_steps(steps: Steps) -> None:
    steps.bury()
    assert steps.of(steps.storage.purge_dead) == JOBS
    assert steps.rig.counts() == (0, 0, 0, 0)


def test_dead_letters_are_purged_by_name_in_steps(steps: Steps) -> None:
    names = steps.bury()
    assert steps.of(lambda: steps.storage.purge_dead([*names, names[0], "none"])) == JOBS


def test_dead_letters_are_revived_in_steps(steps: Steps) -> None:
    names = steps.bury()
    assert steps.of(lambda: steps.storage.revive(names)) == JOBS
    assert steps.rig.order(JOBS) == names


@pytest.mark.parametrize("label", ["another", ""])
def test_parked_letters_go_to_another_label_in_steps(steps: Steps, label: str) -> None:
    names = steps.bury(parked="task x")
    assert steps.of(lambda: steps.storage.relabel("q", names, label)) == names
    assert [row.label for row in steps.storage.parked(["q"])] == [label] * bool(label)


def test_due_jobs_are_promoted_in_steps(steps: Steps) -> None:
    run_at_ms = now_ms() + 1500
    steps.put(run_at_ms=run_at_ms)
    moved = 0
    while moved < JOBS:
        due = steps.storage.promote(["q"], 100_000)
        moved += due.promoted
    assert max(steps.changed) <= ROWS_MAX


def test_answers_go_in_steps(steps: Steps) -> None:
    names = steps.put()
    for at in range(0, JOBS, 100):
        leases = steps.rig.lease(100)
        ends = [
            Outcome(lease.id, "q", lease.token, "ack", answer=done(lease.token), answer_ttl_s=1)
            for lease in leases
        ]
        assert all(steps.rig.settle(*ends)), at
    _past(steps, "UPDATE job SET rank=1 WHERE state=6")
    assert steps.of(lambda: steps.storage.purge(["q"], dead_ttl_s=1, dead_max=1)) == len(names)


def test_what_is_past_its_lifetime_goes_in_steps(steps: Steps) -> None:
    storage = steps.storage
    for number in range(JOBS):
        storage.fire(f"t@{number}", [])
        storage.revoke(f"task:t{number}", Revocation(), 600)
        storage.group_open(f"g{number}", "q", 1, None, 600)
        storage.lock(f"L{number}", "me", ttl_s=600)
        storage.take(f"k{number}", 1, 1000, "me")
    for sql in (
        "UPDATE tick SET until_ms=1",
        "UPDATE standing SET until_ms=1",
        "UPDATE party SET until_ms=1",
        "UPDATE place SET until_ms=1",
        "UPDATE start SET until_ms=1",
    ):
        _past(steps, sql)
    assert steps.of(lambda: storage.purge(["q"], dead_ttl_s=1, dead_max=1)) == JOBS
    assert list(storage.leftovers()) == []


def test_a_purge_with_nothing_to_do_takes_no_lock(steps: Steps) -> None:
    """It held the write lock while it read all rows of six tables."""
    steps.put(5)
    steps.storage.revoke("task:t", Revocation(), 600)
    steps.changed.clear()
    steps.storage.purge(["q"], dead_ttl_s=1000, dead_max=100)
    assert steps.changed == []


def _past(steps: Steps, sql: str) -> None:
    """Have rows be past their lifetime, as if time had passed."""
    steps.storage._db.rows(sql)

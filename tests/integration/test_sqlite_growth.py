"""Cost per job stays flat, and the file stays bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taskqd.clock import now_ms
from taskqd.jobs.job import Entry, State
from taskqd.storage import open_storage
from taskqd.storage.sqlite import (
    SqliteStorage,
    answers,
    control,
    groups,
    leases,
    nodes,
    notes,
    parked,
    revocations,
    timers,
    views,
)
from taskqd.storage.sqlite.rows import entries, extras, lifetimes, transaction
from tests.support.rigs.rig import Rig, ack, done
from tests.support.waiting import wait_until

MODULES = (
    *(answers, control, groups, leases, nodes, notes, parked, revocations, timers, views),
    *(entries, extras, lifetimes, transaction),
)


def _statements() -> list[tuple[str, str]]:
    """Return (name, SQL) of every statement on jobs that is kept as a constant."""
    found = []
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, str) and re.search(r"\bjob\b", value) and _is_sql(value):
                found.append((f"{module.__name__.rpartition('.')[2]}.{name}", value))
    return found


def _is_sql(text: str) -> bool:
    return text.strip().partition(" ")[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")


@pytest.fixture(scope="module")
def busy_storage(tmp_path_factory: pytest.TempPathFactory) -> SqliteStorage:
    path = tmp_path_factory.mktemp("plans") / "a.db"
    storage = open_storage(f"sqlite:///{path}?synchronous=normal", "app")
    rig = Rig(storage)
    rig.put(*(f"j{number}" for number in range(2000)))
    rig.put(*(f"l{number}" for number in range(2000)), run_at_ms=now_ms() + 10**7)
    assert isinstance(storage, SqliteStorage)
    return storage


def test_there_are_statements_to_judge() -> None:
    assert len(_statements()) >= 20


@pytest.mark.parametrize(("name", "sql"), _statements(), ids=lambda value: value.split()[0])
def test_every_statement_on_jobs_goes_by_an_index(
    busy_storage: SqliteStorage, name: str, sql: str
) -> None:
    """No statement reads all jobs, nor sorts them: so a million waiting ones cost what ten do."""
    numbered = re.findall(r"\?(\d)", sql)
    arguments = [0] * (max(map(int, numbered)) if numbered else sql.count("?"))
    plan = [row[3] for row in busy_storage._db.rows(f"EXPLAIN QUERY PLAN {sql}", arguments)]
    assert not [step for step in plan if re.match(r"SCAN job\b", step)], (name, plan)
    assert not [step for step in plan if "TEMP B-TREE FOR ORDER" in step], (name, plan)


def test_the_counters_are_those_of_the_rows(busy_storage: SqliteStorage) -> None:
    [row] = busy_storage.queues()
    assert row.queued == sum(1 for _ in busy_storage.jobs(State.QUEUED))
    assert list(busy_storage.leftovers()) == []


@pytest.mark.slow
def test_two_hundred_thousand_drained_jobs_leave_a_small_file(tmp_path: Path) -> None:
    rig = Rig(open_storage(f"sqlite:///{tmp_path}/a.db?synchronous=normal", "app"))
    answer = done(1, ttl_s=1)
    largest = []
    for round_ in range(10):
        rig.storage.enqueue(
            [Entry(f"r{round_}-{number:05}", "q", b'{"t":"x"}') for number in range(20_000)]
        )
        held: list = []
        while True:
            ends = [ack(lease, answer, answer_ttl_s=1) for lease in held]
            turn = rig.storage.turn("n.1", ends, ["q"], 500)
            assert all(turn.settled)
            held = turn.leases
            if not held:
                break
        rig.storage.purge(["q"], dead_ttl_s=1, dead_max=1)
        largest.append((tmp_path / "a.db").stat().st_size)
    assert max(largest) < 60 * 1024 * 1024
    assert (tmp_path / "a.db-wal").stat().st_size < 80 * 1024 * 1024

    def shrunk() -> bool:
        rig.storage.purge(["q"], dead_ttl_s=1, dead_max=1)
        return (tmp_path / "a.db").stat().st_size < 12 * 1024 * 1024 and not _jobs(rig)

    wait_until(shrunk, "a file that gives its pages back")
    assert list(rig.storage.leftovers()) == []


def _jobs(rig: Rig) -> int:
    assert isinstance(rig.storage, SqliteStorage)
    count: int = rig.storage._db.rows("SELECT count(*) FROM job")[0][0]
    return count

"""Short outages that outlast a short lease, and lies that their checker catches; `make outages` is long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.checks.outage_checks import Round, broken
from tests.chaos.faults.absences import CUT_OFF, FAILED_OVER
from tests.chaos.ledger import Line
from tests.chaos.outage_report import Row, with_rounds
from tests.chaos.outages import run
from tests.support.servers.redis_server import available_servers

LEASE_S = 2.0
SHORT = [
    ("redis", "thread", ["stopped", "loading", CUT_OFF], 3.0),
    ("redis", "process", ["killed", "full"], 3.0),
    ("redis", "greenlet", ["refused", "one-way"], 3.0),
    ("cluster", "thread", ["stopped", FAILED_OVER], 3.0),
    ("sqlite", "asyncio", ["locked"], 3.0),
]
SERVER_OF = {"sentinel": "redis", "cluster": "redis"}


@pytest.mark.slow
@pytest.mark.timeout(600)  # nothing in it is long but on a machine that others load
@pytest.mark.parametrize(("storage", "kind", "ways", "seconds"), SHORT)
def test_an_outage_that_outlasts_the_lease_is_nobodys_death(
    tmp_path: Path, storage: str, kind: str, ways: list[str], seconds: float
) -> None:
    server = SERVER_OF.get(storage, storage)
    if server != "sqlite" and server not in available_servers():
        pytest.skip(f"no {storage} server")
    rows = run(tmp_path / "outages", storage, kind, ways, [seconds], LEASE_S)
    assert [row for row in rows if row.broken] == []
    assert [row.way for row in rows] == ways


# -- lies ------------------------------------------------------------------------------------------


def _line(
    event: str, at_s: float, job: str, kind: str = "long", pid: int = 1, **facts: int
) -> Line:
    name = "gate" if event in ("lock", "unlock") else ""
    return Line(
        e=event, m=round(at_s * 1e9), w=0, pid=pid, id=job, kind=kind, token=pid, name=name, **facts
    )  # type: ignore[arg-type]


def _story(**changes: object) -> Round:
    lines = [
        _line("begin", 1, "a"),
        _line("end", 20, "a"),
        *(_line(event, at, "b", "locked") for event, at in (("begin", 1), ("lock", 1.1))),
        *(_line(event, at, "b", "locked") for event, at in (("unlock", 9), ("end", 9.1))),
        *(_line(event, at, "c", "locked") for event, at in (("begin", 10), ("lock", 10.1))),
        *(_line(event, at, "c", "locked") for event, at in (("unlock", 15), ("end", 15.1))),
        _line("begin", 1, "d", "few"),
        _line("end", 5, "d", "few"),
        _line("begin", 2, "e", "few"),
        _line("end", 6, "e", "few"),
        _line("begin", 1, "o", "once"),
        _line("end", 6, "o", "once"),
    ]
    kinds = {"a": "long", "b": "locked", "c": "locked", "d": "few", "e": "few", "o": "once"}
    told = Round(kinds, dict.fromkeys(kinds, "done"), lines, [{"event": "job.done"}], places=2)
    return told._replace(**changes)


def test_a_round_without_a_fault_breaks_no_law() -> None:
    assert list(broken(_story())) == []
    elsewhere = [*_story().lines, _line("begin", 15, "a", pid=2), _line("end", 30, "a", pid=2)]
    assert list(broken(_story(lines=elsewhere, cut_off=frozenset({1})))) == []


Lie = Callable[[Round], dict[str, object]]
LIES: dict[str, tuple[str, Lie]] = {
    "a job is not done": ("is running", lambda s: {"states": {**s.states, "a": "running"}}),
    "a job is given up": ("is dead", lambda s: {"states": {**s.states, "o": "dead"}}),
    "a job is not known": ("is not known", lambda s: {"states": {**s.states, "a": ""}}),
    "a job starts twice": (
        "started 2 times",
        lambda s: {"lines": [*s.lines, _line("begin", 30, "a", pid=2)]},
    ),
    "a job never starts": (
        "started 0 times",
        lambda s: {"lines": [line for line in s.lines if line.id != "o"]},
    ),
    "a job of a daemon that was cut off starts three times": (
        "started 3 times",
        lambda s: {
            "lines": [*s.lines, *(_line("begin", 30, "a", pid=pid) for pid in (2, 3))],
            "cut_off": frozenset({1}),
        },
    ),
    "a job that is to run at most once starts elsewhere too": (
        "started 2 times",
        lambda s: {
            "lines": [*s.lines, _line("begin", 30, "o", "once", pid=2)],
            "cut_off": frozenset({1}),
        },
    ),
    "a crash is counted": (
        "counts 1 crashes",
        lambda s: {"lines": [*s.lines[1:], _line("begin", 1, "a", crashes=1)]},
    ),
    "a crash of who was cut off is not taken back": (
        "of who lives",
        lambda s: {"cut_off": frozenset({1}), "blamed": {"a": 1}},
    ),
    "two are in one lock": (
        "beside",
        lambda s: {"lines": [*s.lines, _line("lock", 5, "a"), _line("unlock", 6, "a")]},
    ),
    "a holder does not let go": (
        "which nobody killed",
        lambda s: {"lines": [line for line in s.lines if (line.e, line.id) != ("unlock", "b")]},
    ),
    "three run where two may": (
        "3 of kind few",
        lambda s: {"lines": [*s.lines, _line("begin", 3, "b", "few"), _line("end", 4, "b", "few")]},
    ),
    "a worker is said to have crashed": (
        "worker.crashed",
        lambda s: {"log": [{"event": "worker.crashed"}]},
    ),
    "a job is said to be an orphan": (
        "job.orphaned",
        lambda s: {"log": [{"event": "job.orphaned"}]},
    ),
    "a job is said to be dead": ("job.dead", lambda s: {"log": [{"event": "job.dead"}]}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_caught(lie: str) -> None:
    says, change = LIES[lie]
    story = _story()
    assert any(says in found for found in broken(story._replace(**change(story))))


# -- the page --------------------------------------------------------------------------------------


def test_rounds_are_added_to_a_page_and_replace_those_of_the_same_kind() -> None:
    held = Row("redis", "thread", "killed", 13.0, 28, 0.25, ())
    late = Row("redis", "asyncio", "killed", 13.0, 28, 2.5, ())
    other = Row("cluster", "thread", "stopped", 120.0, 28, 0.5, ())
    page = with_rounds("# A long run\n\ntext\n", [held, late])
    assert page.startswith("# A long run\n\ntext\n\n# Outages of the storage\n")
    assert "| redis | killed | 13 |  | 0.25 |  | **2.50: late** |" in page
    lost = other._replace(kind="process", broken=("long a is dead",))
    page = with_rounds(page, [late._replace(again_s=1.0), other, lost])
    table = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert table == [
        "| cluster | stopped | 120 | **0.50: long a is dead** | 0.50 |  |  |",
        "| redis | killed | 13 |  | 0.25 |  | 1.00 |",
    ]
    assert with_rounds(page, []) == page

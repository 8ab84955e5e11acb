"""A short campaign of failovers, and lies that its judge catches; `make failovers` is long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.failover_report import (
    PART_AWAY,
    Event,
    Outcome,
    has_failed,
    line,
    longest_gap_s,
    with_outcomes,
)
from tests.chaos.failovers import run
from tests.chaos.ledger import Line
from tests.support.servers.redis_server import available_servers

SHORT = [
    # Greenlets: their workers listen to several servers by what gevent takes out of the library.
    ("cluster", "replica", "greenlet", [("slot moved", 2), ("master killed", 1), (PART_AWAY, 1)]),
    ("sentinel", "replica", "process", [("master killed", 1)]),
]


@pytest.mark.slow
@pytest.mark.timeout(600)  # nothing in it is long but on a machine that others load
@pytest.mark.parametrize(("storage", "durability", "kind", "events"), SHORT)
def test_what_was_acknowledged_is_done_though_masters_die(
    tmp_path: Path, storage: str, durability: str, kind: str, events: list[tuple[str, int]]
) -> None:
    if "redis" not in available_servers():
        pytest.skip("no Redis server")
    seen = run(tmp_path / "run", storage, durability, kind, events, lease_s=3.0)
    assert seen.broken == []
    assert [event.name for event in seen.events] == [
        name for name, count in events for _ in range(count)
    ]
    assert seen.jobs > 20
    # How soon is a matter of the machine; that the others did not wait for who was away is not.
    assert all(event.others_s < event.away_s for event in seen.events if event.name == PART_AWAY)


def _begin(at_s: float, queue: str) -> Line:
    return Line(e="begin", m=round(at_s * 1e9), w=0, pid=1, id="j", name=queue)


def test_the_longest_time_without_a_begin_is_that_of_any_queue() -> None:
    lines = [_begin(at_s, "a") for at_s in (1, 2, 3, 8, 11)] + [_begin(6, "b")]
    assert longest_gap_s(lines, ["a"], round(1.5e9), round(9e9)) == 5.0
    assert longest_gap_s(lines, ["a", "b"], 0, round(14e9)) == 8.0
    assert longest_gap_s(lines, [], 0, round(14e9)) == 0.0


HELD = Outcome("cluster", "replica", "thread", [Event("killed", 2.0, 1.0, 0.5)], 9, 0, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"broken": ["a job of q is not known"]},
        {"events": [Event("killed", 2.0, 5.1, 0.5)]},
        {"events": [Event("killed", 2.0, 1.0, 5.1)]},
    ],
    ids=["lost", "late", "others waited"],
)
def test_a_lie_is_caught_and_told_in_the_table(wrong: dict[str, object]) -> None:
    assert not has_failed(HELD)
    assert "| held |" in line(HELD)
    lie = HELD._replace(**wrong)  # type: ignore[arg-type]
    assert has_failed(lie)
    assert "**" in line(lie)


def test_a_campaign_replaces_only_rows_of_its_kind_on_the_page() -> None:
    other = HELD._replace(storage="sentinel", durability="local")
    page = with_outcomes("# Chaos\n\ntext\n\n# Outages of the storage\n\nmore\n", [HELD, other])
    again = with_outcomes(page, [HELD._replace(jobs=77)])
    assert again.count("| 77 |") == 1
    assert again.count("| sentinel | local |") == 1
    assert again.count("| 9 |") == 1
    assert again.startswith("# Chaos\n\ntext\n")
    assert with_outcomes(again, []) == again

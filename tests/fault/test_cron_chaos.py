"""Ticks under kills: a short run, and proof that the checker finds what it looks for.

`make cron-chaos` runs longer ones.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.chaos.checks.cron_checker import judge
from tests.chaos.cron_chaos import CronChaos, markdown
from tests.chaos.ledger import Fault, Line

SECOND_NS = 1_000_000_000


@pytest.mark.slow
def test_each_tick_fires_once_while_four_daemons_are_killed(tmp_path: Path) -> None:
    report = CronChaos(tmp_path / "run", "sqlite", seed=3).run(10.0)
    print(markdown(report))
    assert report.judgement.broken == []
    assert report.judgement.counts["ticks"] >= 18
    assert sum(report.faults.values()) >= 4


def run(second: int, *, token: int = 1, pid: int = 7, end: bool = True) -> list[Line]:
    """Return what a job of tick@second writes, which begins at that second of both clocks."""
    facts = {"id": f"tick@{second * 1000}", "w": second * 1000, "pid": pid, "token": token}
    begin = Line(e="begin", m=(second + token) * SECOND_NS, **facts)
    return [begin, Line(e="end", m=begin.m + 1000, **facts)] if end else [begin]


def broken(
    runs: list[Line], fired: list[int], faults: list[Fault] | None = None, until: int = 2
) -> list[str]:
    return judge(runs, {"tick": fired}, faults or [], {"tick": 1000}, until * 1000).broken


def test_the_checker_is_content_with_ticks_that_fired_and_ran_once() -> None:
    assert broken([*run(1), *run(2)], [1000, 2000]) == []
    assert broken([*run(1), *run(2)], [1000]) == [], "its daemon died before it could say so"


def test_the_checker_finds_a_tick_that_never_ran_and_one_that_never_ended() -> None:
    assert broken(run(2), [2000]) == ["tick@1000: never ran"]
    assert broken([*run(1, end=False), *run(2)], [1000, 2000]) == ["tick@1000: never ended"]


def test_the_checker_finds_a_tick_that_two_daemons_fired() -> None:
    told = broken([*run(1), *run(2)], [1000, 1000, 2000])
    assert told == ["tick@1000: 2 daemons say that they fired it"]


def test_the_checker_finds_a_second_run_that_no_kill_excuses() -> None:
    twice = [*run(1), *run(1, token=4), *run(2)]
    early = Fault(kind="tree", begin=0, end=SECOND_NS, killed=[7])
    late = Fault(kind="tree", begin=60 * SECOND_NS, end=61 * SECOND_NS, killed=[7])
    other = Fault(kind="tree", begin=3 * SECOND_NS, end=4 * SECOND_NS, killed=[8])
    for faults in ([], [early], [late], [other]):
        assert broken(twice, [1000, 2000], faults) == [
            "tick@1000: ran again after run 1 of 7, which nothing hit"
        ]
    killed = Fault(kind="tree", begin=3 * SECOND_NS, end=4 * SECOND_NS, killed=[7])
    assert broken(twice, [1000, 2000], [killed]) == []


def test_the_checker_knows_a_worker_that_was_frozen_with_a_lease_and_began_too_late() -> None:
    stale = [msgspec.structs.replace(line, token=1) for line in run(1, token=4)]
    other = run(1, token=2, pid=8)
    frozen = Fault(kind="freeze", begin=0, end=5 * SECOND_NS - 1, frozen=[7])
    assert broken([*other, *stale, *run(2)], [1000, 2000], [frozen]) == []
    assert broken([*other, *stale, *run(2)], [1000, 2000]) != []


def test_the_checker_finds_a_tick_beside_the_second() -> None:
    assert broken([*run(1), *run(2)], [1000, 1500, 2000]) == ["tick@1500: not at a whole second"]

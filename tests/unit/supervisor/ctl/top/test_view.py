"""What taskqctl top shows of two samples, in how much room."""

from __future__ import annotations

import pytest

from taskqd.supervisor.ctl.top.view import Column, Sample, Table, fit, lines, rates, view
from tests.support.rigs.top_facts import depth, facts, worker


def column(table: Table, name: str) -> list[str]:
    at = [column.name for column in table.columns].index(name)
    return [row[at] for row in table.rows]


def test_rates_are_what_came_between_two_looks() -> None:
    before = Sample(10.0, facts(jobs={"done": 100, "failed": 4, "retried": 0}))
    now = Sample(12.0, facts(jobs={"done": 150, "failed": 5, "retried": 0}))
    assert rates(before, now) == {"done": 25.0, "failed": 0.5, "retried": 0.0}
    assert rates(None, now) == {"done": None, "failed": None, "retried": None}


def test_a_worker_shows_its_job_its_speed_and_its_cost() -> None:
    jobs = [
        {"job_id": "a", "task": "shop.pay", "ran_s": 0.5},
        {"job_id": "b", "task": "shop.slow", "ran_s": 65.0},
    ]
    before = Sample(0.0, facts(worker(0, jobs={"done": 5}, cpu_s=1.0)))
    now = Sample(2.0, facts(worker(0, jobs={"done": 25}, cpu_s=2.5, running=jobs)))
    table = view(before, now).workers
    shown = {name: column(table, name)[0] for name in ("CPU%", "DONE/S", "PSS MB", "RUN", "JOB")}
    assert shown == {
        "CPU%": "75",
        "DONE/S": "10.0",
        "PSS MB": "10.0",
        "RUN": "1 min 5 s",
        "JOB": "shop.slow (+1)",
    }


def test_a_new_worker_in_an_old_place_has_no_speed_yet() -> None:
    before = Sample(0.0, facts(worker(0, id="n.1", jobs={"done": 500})))
    now = Sample(1.0, facts(worker(0, id="n.2", jobs={"done": 3})))
    assert column(view(before, now).workers, "DONE/S")[0] == ""


def test_workers_in_trouble_are_loud() -> None:
    waiting = {"worker": 1, "state": "waiting", "respawn_in_s": 3.0, "error": "exit 1\x1b[2J"}
    away = worker(2, storage_error="refused")
    shown = view(None, Sample(0.0, facts(worker(0), waiting, away))).workers
    assert shown.loud == {1, 2}
    assert column(shown, "STATE")[:3] == ["ready", "waiting", "storage?"]
    assert column(shown, "JOB")[1] == r"exit 1\x1b[2J"


def test_queues_show_their_depth_and_whether_they_are_paused() -> None:
    depths = [depth("default", queued=12, dead=1), depth("slow", scheduled=3, paused=True)]
    table = view(None, Sample(0.0, facts(depths=depths))).queues
    assert [list(row) for row in table.rows] == [
        ["default", "12", "0", "0", "1", ""],
        ["slow", "0", "3", "0", "0", "paused"],
    ]
    assert view(None, Sample(0.0, facts(depths=None))).queues.rows == []


def test_a_narrow_terminal_loses_the_columns_of_least_worth_first() -> None:
    table = Table((Column("A", 9), Column("BBBB", 1), Column("CC", 5)), [["1", "2", "3"]])
    assert [c.name for c in fit(table, 11).columns] == ["A", "BBBB", "CC"]
    assert [c.name for c in fit(table, 10).columns] == ["A", "CC"]
    assert [c.name for c in fit(table, 3).columns] == ["A"]


@pytest.mark.parametrize("width", [10, 24, 40, 80, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    now = Sample(0.0, facts(worker(0), worker(1), depths=[depth("q" * 50)]))
    shown = view(None, now)
    assert all(len(line) <= width for line in lines(shown.workers, width))
    assert all(len(line) <= width for line in lines(shown.queues, width))


def test_the_machine_is_shown_below_the_jobs() -> None:
    load = {
        "cpu_percent": 35.2,
        "cpus": 2,
        "memory_used_bytes": 3_100_000_000,
        "memory_bytes": 24_000_000_000,
        "load": [2.8, 2.0, 1.5],
    }
    head = view(None, Sample(0.0, facts(machine=load))).head
    assert head[-1] == "machine 35 % of 2 CPUs, 3.1 of 24.0 GB used, load 2.80 2.00 1.50"

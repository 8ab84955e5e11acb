"""The status of the daemon: its state in a word, its probes, and its counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskqd.supervisor.endpoints import status
from taskqd.supervisor.state.lifecycle import ChildState
from tests.support.rigs.contexts import context_of
from tests.support.rigs.fleets import NOW, child_of, fleet_of, seen_of


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "ready"),
        ({"served": False}, "starting"),
        ({"quiet": True}, "quiet"),
        ({"stop": object()}, "stopping"),
    ],
)
def test_the_state_is_one_word(changes: dict[str, Any], word: str) -> None:
    assert status.state(fleet_of(**changes)) == word


def test_with_one_worker_of_two_the_state_is_degraded_and_with_none_unready() -> None:
    fleet = fleet_of(2)
    for left, word in ((1, "degraded"), (0, "unready")):
        fleet.workers[left].child = None
        assert status.state(fleet) == word


def test_a_storage_error_counts_once_no_child_reaches_the_storage() -> None:
    fleet = fleet_of(2)
    children = list(fleet.children())
    for child in children[:-1]:
        child.storage_error = "refused"
    assert status.storage_error(fleet) == ""
    children[-1].storage_error = "refused"
    assert status.storage_error(fleet) == "refused"
    assert status.ready(context_of(fleet))["reasons"] == ["storage: refused"]


def test_an_app_that_cannot_be_imported_again_is_a_reason_but_the_old_one_serves() -> None:
    ready = status.ready(context_of(fleet_of(app_error="SyntaxError")))
    assert (ready["ok"], ready["reasons"]) == (True, ["app: SyntaxError"])


def test_a_child_that_cannot_be_killed_makes_the_daemon_not_live() -> None:
    fleet = fleet_of(2)
    context = context_of(fleet)
    assert status.live(context)["ok"]
    post = fleet.workers[0]
    post.child = child_of(post, ChildState.DYING)
    post.child.since_s = NOW - status.UNKILLED_S - 1
    live = status.live(context)
    assert not live["ok"]
    assert live["reasons"] == [f"worker 0 (pid {post.child.pid}) cannot be killed"]


def test_jobs_of_living_and_dead_workers_are_counted_together() -> None:
    fleet = fleet_of(2)
    fleet.observations["n.0"] = seen_of()
    fleet.observations["n.0"].counters = (3, 1, 0, 0)
    context = context_of(fleet)
    context.totals.jobs["done"] = 10
    assert status.jobs(context) == {"done": 13, "failed": 1, "retried": 0, "interrupted": 0}


def test_everything_is_plain_values_with_a_row_for_each_worker() -> None:
    fleet = fleet_of(2)
    fleet.workers[1].child = None
    fleet.workers[1].spawn_at_s = NOW + 2
    facts = status.everything(context_of(fleet), pid=7)
    json.dumps(facts)
    assert (facts["pid"], facts["instance"], facts["uptime_s"]) == (7, "shop", 60.0)
    assert [row["state"] for row in facts["workers"]] == ["ready", "waiting"]
    assert facts["workers"][1]["respawn_in_s"] == 2.0


def test_the_title_and_the_line_name_what_is_not_as_it_should_be() -> None:
    context = context_of(fleet_of(2, quiet=True))
    assert status.title(context) == "taskqd: master [shop] quiet 2 workers, 0 busy"
    assert status.line(context) == "quiet: 2 of 2 workers ready, 0 busy"

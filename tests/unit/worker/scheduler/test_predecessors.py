"""Which registered nodes are dead daemons of this one's name."""

from __future__ import annotations

from taskqd.storage.base import Node, NodeRow
from taskqd.worker.scheduler import predecessors


def row(id: str, **fields: object) -> NodeRow:
    facts = {"name": "shop@box", "host": "boot/1", "pid": 10, "pid_started": 5, **fields}
    return NodeRow(Node(id, **facts), 5.0, {})  # type: ignore[arg-type]


ME = row("me").node


def none_runs(pid: int, started: int) -> bool:
    return False


def test_dead_daemons_of_the_same_name_and_place_are_predecessors() -> None:
    rows = [row("me"), row("old"), row("other", name="x@box"), row("away", host="boot/2")]
    assert predecessors.dead(ME, rows, none_runs) == ["old"]


def test_without_a_known_host_nothing_is_judged() -> None:
    nowhere = row("me", host="").node
    assert predecessors.dead(nowhere, [row("old", host="")], none_runs) == []


def test_a_daemon_that_runs_is_no_predecessor_and_a_new_process_of_its_pid_is_not_it() -> None:
    rows = [row("old", pid=77, pid_started=1)]
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (77, 1)) == []
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (77, 2)) == ["old"]


def test_a_daemon_whose_scheduler_still_watches_draining_workers_is_left_alone() -> None:
    rows = [row("old", info={predecessors.SCHEDULER: predecessors.identity(88, 3)})]
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (88, 3)) == []
    assert predecessors.lingering(ME, rows)
    assert predecessors.dead(ME, rows, none_runs) == ["old"]

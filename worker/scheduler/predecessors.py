"""Which registered nodes are dead daemons of this one's name.  Pure: facts are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from taskqd.storage.base import Node, NodeRow

SCHEDULER = "scheduler"
"""Key in `Node.info`: "pid:start time" of the node's scheduler, which may outlive its master."""


def identity(pid: int, started: int) -> str:
    return f"{pid}:{started}"


def dead(me: Node, rows: Iterable[NodeRow], runs: Callable[[int, int], bool]) -> list[str]:
    """Return the ids of dead predecessors.

    A node of another host or pid namespace cannot be judged by its pid; its lease will tell.  One
    whose scheduler still runs is not dead: its workers drain under it.  `runs(pid, started)`.
    """
    return [row.node.id for row in rows if _same_place(me, row.node) and not _lives(row.node, runs)]


def lingering(me: Node, rows: Iterable[NodeRow]) -> bool:
    """Return whether any other node of this name and place is registered."""
    return any(_same_place(me, row.node) for row in rows)


def _same_place(me: Node, other: Node) -> bool:
    return bool(me.host) and (other.name, other.host) == (me.name, me.host) and other.id != me.id


def _lives(node: Node, runs: Callable[[int, int], bool]) -> bool:
    scheduler = node.info.get(SCHEDULER, "")
    return runs(node.pid, node.pid_started) or (bool(scheduler) and runs(*_pair(scheduler)))


def _pair(identity: str) -> tuple[int, int]:
    pid, _, started = identity.partition(":")
    return int(pid), int(started)

"""What taskqctl doctor asks of the storage."""

from __future__ import annotations

from taskqd.storage.base import Node, NodeRow
from taskqd.supervisor.ctl.doctor.command import namesakes


def test_only_living_nodes_of_one_name_are_namesakes() -> None:
    def row(node_id: str, name: str, pid: int, expires_in_s: float = 5.0) -> NodeRow:
        return NodeRow(Node(node_id, name, pid=pid), expires_in_s, {})

    rows = [
        *(row("a", "shop@h", 1), row("b", "shop@h", 2), row("c", "shop@h", 3, -1.0)),
        *(row("d", "other@h", 4), row("e", "", 5), row("f", "", 6)),
    ]
    assert namesakes(rows) == ["shop@h (pids 1, 2)"]

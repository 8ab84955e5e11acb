"""What taskqctl doctor asks of the storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskqd.storage.base import Node, NodeRow
from taskqd.storage.sqlite import SqliteStorage
from taskqd.supervisor.ctl import target
from taskqd.supervisor.ctl.doctor import command
from taskqd.supervisor.ctl.doctor.command import namesakes
from taskqd.supervisor.ctl.options import Options


def test_only_living_nodes_of_one_name_are_namesakes() -> None:
    def row(node_id: str, name: str, pid: int, expires_in_s: float = 5.0) -> NodeRow:
        return NodeRow(Node(node_id, name, pid=pid), expires_in_s, {})

    rows = [
        *(row("a", "shop@h", 1), row("b", "shop@h", 2), row("c", "shop@h", 3, -1.0)),
        *(row("d", "other@h", 4), row("e", "", 5), row("f", "", 6)),
    ]
    assert namesakes(rows) == ["shop@h (pids 1, 2)"]


def test_the_doctor_reads_the_file_only_when_its_storage_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    SqliteStorage(str(path), "app").close()
    events: list[str] = []
    close = SqliteStorage.close

    def closes(storage: SqliteStorage) -> None:
        close(storage)
        events.append("closed")

    monkeypatch.setattr(SqliteStorage, "close", closes)
    monkeypatch.setattr(command, "_file", lambda *_: events.append("read"))
    for module in (command, target):
        monkeypatch.setattr(module, "storage_url", lambda _: f"sqlite:///{path}")
    options = Options({}, lambda _: pytest.fail("not needed"), namespace="app")
    store = command._store(options)
    assert store is not None
    assert not store.error
    assert events == ["closed", "read"]

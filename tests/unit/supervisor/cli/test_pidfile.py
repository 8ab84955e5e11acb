"""The pid file: locked while its daemon lives, removed at its end, replaced where it is stale."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskqd.errors import ConfigError
from taskqd.supervisor.cli.pidfile import pid_file


def test_without_a_path_there_is_no_file(tmp_path: Path) -> None:
    with pid_file(None):
        assert list(tmp_path.iterdir()) == []


def test_the_file_holds_the_pid_while_the_block_lasts(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_held_is_refused_with_the_pid_of_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")
    with pid_file(path):
        with pytest.raises(ConfigError, match=rf"runs \(pid {os.getpid()}\)"):
            with pid_file(path):
                pass
        assert os.path.exists(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "pid").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="cannot be written"), pid_file(str(tmp_path / "pid")):
        pass
    assert (tmp_path / "precious").read_text() == "mine"

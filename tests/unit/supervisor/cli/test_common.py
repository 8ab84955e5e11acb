"""Flags read by click: usage errors in one line, with the exit codes of both commands."""

from __future__ import annotations

import io

import pytest

from taskqd.errors import StorageError
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail, read_flags, storage_failure
from taskqd.supervisor.cli.main import taskqd


def test_flags_are_what_the_command_returns() -> None:
    assert read_flags(taskqd, "taskqd", ["shop:app", "-w", "3"])["workers"] == "3"


def test_a_flag_that_is_mistyped_is_one_line_with_a_suggestion() -> None:
    with pytest.raises(Fail, match='--worker: unknown flag; did you mean "--workers"') as caught:
        read_flags(taskqd, "taskqd", ["--worker", "3"])
    assert caught.value.code == common.USAGE
    assert "\n" not in str(caught.value)


def test_help_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_flags(taskqd, "taskqd", ["--help"])
    assert caught.value.code == common.OK
    assert "--grace" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["gone", "redis://:***@db: gone"])
def test_a_storage_is_named_once_and_without_its_password(text: str) -> None:
    failure = storage_failure("redis://:secret@db", StorageError(text))
    assert (failure.code, str(failure)) == (common.UNAVAILABLE, "storage redis://:***@db: gone")


def test_a_reader_that_has_gone_ends_the_output_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = io.StringIO()
    closed.close()
    made: list[int] = []
    monkeypatch.setattr("sys.stdout", closed)
    common.show(str(made.append(number)) for number in range(5))
    assert made == [0]

"""Configuration files: their lines, their encoding, and who may read and write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configs import errors, load, written


def test_three_errors_of_a_file_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[workers]\ntype = "process"\ncuont = 3\n[shutdown]\ngrace_s = -1\n[storage]\nurl = "redi://db"\n',
    )
    first, second, third = errors(file)
    assert first == 'prod.toml:3: workers.cuont: unknown key; did you mean "count"?'
    assert second.startswith("prod.toml:5: shutdown.grace_s: -1: expected a duration from 0s")
    assert third.startswith('prod.toml:7: storage.url: "redi://db": unknown URL scheme "redi"')
    assert third.endswith('did you mean "redis"?')


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"[workers]\ncount = = 3", "2: not valid TOML: "),
        (b"a = 1\na = 2", "2: not valid TOML: "),
        (b"name = 'unfinished\n", "1: not valid TOML: "),
        (b"\n\nname = '\xff\xfe'", "3: not UTF-8, so not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_told_with_its_line(
    tmp_path: Path, data: bytes, error: str
) -> None:
    file = written(tmp_path, "")
    file.write_bytes(data)
    (found,) = errors(file)
    assert found.startswith(f"prod.toml:{error}")
    assert "at line" not in found


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    assert errors(tmp_path / "no.toml") == ["no.toml: cannot be read: No such file or directory"]
    (found,) = errors(env={"TASKQD_CONFIG": str(tmp_path)})
    assert found == f"{tmp_path}: cannot be read: Is a directory"


def test_a_key_in_an_odd_spelling_is_taken_and_an_error_in_it_names_the_file(
    tmp_path: Path,
) -> None:
    assert load(written(tmp_path, '"work\\u0065rs".count = 3')).settings.workers.count == 3
    (error,) = errors(written(tmp_path, '"work\\u0065rs".count = 0'))
    assert error.startswith("prod.toml: workers.count: 0: expected")


@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_file_that_names_code_and_others_may_write_is_a_warning(
    tmp_path: Path, mode: int
) -> None:
    (warning,) = load(written(tmp_path, "app = 'shop.tasks:app'", mode)).warnings
    assert "can be written by" in warning
    assert not load(written(tmp_path, "name = 'no-code'", mode)).warnings


def test_a_password_that_others_can_read_is_a_warning_that_hides_it(tmp_path: Path) -> None:
    file = written(tmp_path, "[storage]\nurl = 'redis://:hunter2@db'", 0o644)
    (warning,) = load(file).warnings
    assert "can be read by everybody" in warning
    (warning,) = load(storage__url="redis://:hunter2@db").warnings
    assert "list of processes" in warning
    assert "hunter2" not in warning

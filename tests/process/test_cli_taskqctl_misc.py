"""taskqctl without a storage that answers, and the configuration it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rigs.ctl import taskqctl


def test_no_database_is_made_where_none_was(tmp_path: Path) -> None:
    done = taskqctl(tmp_path, "queue", "ls")
    assert done.code == 69
    assert (
        done.err == "storage sqlite:///taskqd.db: no such file; say --storage, --config or --app\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_storage_hides_its_password(tmp_path: Path) -> None:
    done = taskqctl(
        tmp_path, "queue", "ls", "--namespace", "x", TASKQD_STORAGE="redis://:hunter2@127.0.0.1:1"
    )
    assert done.code == 69
    assert "hunter2" not in done.err
    assert done.err.startswith("storage redis://:***@127.0.0.1:1: ")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["queue", "lst"], "No such command 'lst'"),
        (["job", "ls", "--stat", "x"], '--stat: unknown flag; did you mean "--state"?'),
        (["job", "show"], "Missing argument 'ID'"),
        (["--json", "probe", "live"], "write `taskqctl probe live|ready [options]`, probe first"),
    ],
)
def test_misuse_is_a_usage_error(tmp_path: Path, words: list[str], error: str) -> None:
    done = taskqctl(tmp_path, *words)
    assert done.code == 64
    assert error in done.err


def test_an_app_that_cannot_be_imported_is_an_error_if_named_and_else_a_warning(
    tmp_path: Path,
) -> None:
    named = taskqctl(tmp_path, "queue", "ls", "--app", "nowhere:app")
    assert named.code == 78
    assert "no module named 'nowhere'" in named.err
    configured = taskqctl(tmp_path, "queue", "ls", TASKQD_APP="nowhere:app")
    assert configured.code == 69
    assert configured.err.startswith("warning: app 'nowhere:app': no module named 'nowhere'")


def test_the_configuration_is_shown_with_origins_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "prod.toml").write_text('name = "prod"\n[workers]\nmax_memory = "512MiB"\n')
    words = ("config", "show", "--origins", "-C", "prod.toml")
    done = taskqctl(tmp_path, *words, "--json", TASKQD_STORAGE="redis://u:hunter2@db/0")
    rows = {row["key"]: (row["value"], row["origin"]) for row in done.json()}
    assert rows["name"] == ("prod", "prod.toml:1")
    assert rows["workers.max_memory"] == ("512MiB", "prod.toml:3")
    assert rows["storage.url"] == ("redis://u:***@db/0", "TASKQD_STORAGE")
    assert rows["workers.count"] == ("auto", "default")
    assert "hunter2" not in done.out
    table = taskqctl(tmp_path, *words).out.splitlines()
    assert table[0].split() == ["KEY", "VALUE", "ORIGIN"]


def test_errors_of_the_configuration_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "prod.toml").write_text('nam = "prod"\n[workers]\ncount = 0\n')
    done = taskqctl(tmp_path, "status", "-C", "prod.toml")
    assert done.code == 78
    assert [line.split(": ")[0] for line in done.err.splitlines()] == ["prod.toml:1", "prod.toml:3"]

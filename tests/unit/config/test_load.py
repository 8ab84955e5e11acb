"""Flags > environment > credentials > file > default, and every error at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from taskqd.settings import Settings
from tests.support.configs import errors, load, written

ROOT = Path(__file__).parents[3]


def test_nothing_given_is_the_defaults() -> None:
    settings, origins, warnings = load()
    assert settings == Settings()
    assert set(origins.values()) == {"default"}
    assert not warnings


def test_each_layer_wins_over_the_ones_below(tmp_path: Path) -> None:
    file = written(
        tmp_path, "[workers]\ncount = 2\n[shutdown]\ngrace_s = 2\n[log]\nlevel = 'debug'\n"
    )
    env = {"TASKQD_WORKERS__COUNT": "3", "TASKQD_SHUTDOWN__GRACE_S": "3"}
    settings, origins, _ = load(file, env, workers__count="4")
    assert (settings.workers.count, settings.shutdown.grace_s, settings.log.level) == (
        4,
        3,
        "debug",
    )
    assert origins["workers.count"] == "--workers"
    assert origins["shutdown.grace_s"] == "TASKQD_SHUTDOWN__GRACE_S"
    assert origins["log.level"] == f"{file}:6"
    assert origins["log.file"] == "default"


def test_errors_of_file_environment_and_flags_come_together(tmp_path: Path) -> None:
    file = written(tmp_path, "[workers]\ncount = 0\n")
    found = errors(file, {"TASKQD_LOG__LEVEL": "inof"}, shutdown__grace_s="soon")
    assert [error.split(": ")[0] for error in found] == [
        "prod.toml:2",
        "TASKQD_LOG__LEVEL",
        "--grace",
    ]


def test_the_file_of_the_flag_wins_over_the_one_of_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, "name = 'flag'")
    assert load(file, {"TASKQD_CONFIG": "/nowhere"}).settings.name == "flag"


def test_human_forms_become_numbers(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[workers]\ncount = "auto"\nmax_memory = "512MiB"\nmax_age_s = "1h30m"\n[health]\nbind = "off"\n'
        '[limits]\ndead_ttl_s = "90d"\npayload_bytes_max = "2MB"\n[shutdown]\ngrace_s = "500ms"\n',
    )
    settings = load(file).settings
    assert settings.workers.count == 0
    assert settings.workers.max_memory_bytes == 512 * 1024**2
    assert settings.workers.max_age_s == 5400
    assert settings.health.bind is None
    assert (settings.limits.dead_ttl_s, settings.limits.payload_bytes_max) == (
        90 * 86400,
        2_000_000,
    )
    assert settings.shutdown.grace_s == 0.5


def test_off_in_a_later_layer_lifts_a_bound(tmp_path: Path) -> None:
    file = written(tmp_path, "[workers]\nmax_jobs = 100\n")
    assert load(file).settings.workers.max_jobs == 100
    assert load(file, {"TASKQD_WORKERS__MAX_JOBS": "off"}).settings.workers.max_jobs is None


@pytest.mark.parametrize("name", ["dev.toml", "prod.toml"])
def test_the_samples_are_valid(name: str) -> None:
    loaded = load(ROOT / "config" / name)
    assert loaded.settings.app
    assert (
        msgspec.json.decode(msgspec.json.encode(loaded.settings), type=Settings) == loaded.settings
    )

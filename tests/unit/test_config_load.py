"""Flags > environment > credentials > file > default, and every error at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from taskqd import config
from taskqd.config import ConfigErrors, LoadedConfig
from taskqd.errors import ConfigError
from taskqd.settings import Settings

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "prod.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def load(
    file: Path | None = None, env: dict[str, str] | None = None, **flags: object
) -> LoadedConfig:
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return config.load(file=file, env=env or {}, flags=dotted)


def errors(
    file: Path | None = None, env: dict[str, str] | None = None, **flags: object
) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(file, env, **flags)
    folder = f"{file.parent}/" if file else ""
    return [str(problem).replace(folder, "") for problem in caught.value.problems]


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


def test_errors_of_file_environment_and_flags_come_together(tmp_path: Path) -> None:
    file = written(tmp_path, "[workers]\ncount = 0\n")
    found = errors(file, {"TASKQD_LOG__LEVEL": "inof"}, shutdown__grace_s="soon")
    assert [error.split(": ")[0] for error in found] == [
        "prod.toml:2",
        "TASKQD_LOG__LEVEL",
        "--grace",
    ]


def test_an_error_in_a_value_that_is_overridden_is_still_an_error(tmp_path: Path) -> None:
    assert len(errors(written(tmp_path, "[workers]\ncount = 0\n"), workers__count="4")) == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[workerz]\ncount = 1", "1: workerz: unknown section; did you mean [workers]?"),
        ("[zzz]", "1: zzz: unknown section"),
        ("workers = 4", "1: workers: expected a table: [workers]"),
        ("nmae = 'x'", '1: nmae: unknown key; did you mean "name"?'),
        ('"workers.count" = 5', "1: workers.count: unknown key"),
        ("grace_s = 5", '1: grace_s: unknown key; did you mean "shutdown.grace_s"?'),
        (
            "[workers]\ngrace_s = 5",
            '2: workers.grace_s: unknown key; did you mean "shutdown.grace_s"?',
        ),
        ("workers.cuont = 1", '1: workers.cuont: unknown key; did you mean "count"?'),
        (
            "[workers]\ncount = '4'",
            '2: workers.count: "4": expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = 513",
            '2: workers.count: 513: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = true",
            '2: workers.count: true: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ncount = 1.5",
            '2: workers.count: 1.5: expected a whole number from 1 to 512, or "auto"',
        ),
        (
            "[workers]\ntype = 'treads'",
            '2: workers.type: "treads": expected "process", "thread", "greenlet" or "asyncio"; did you mean "thread"?',
        ),
        (
            "[workers]\nmax_memory = 512",
            '2: workers.max_memory: 512: expected a size of at least 16MiB like "512MiB" or "1G", or "off"; did you mean "512MiB"?',
        ),
        ("[scheduler]\nenabled = 1", "2: scheduler.enabled: 1: expected true or false"),
        (
            "[health]\nbind = '127.0.0.1:70000'",
            '2: health.bind: "127.0.0.1:70000": expected a port from 1 to 65535',
        ),
        (
            "[health]\nbind = '127.0.0.1:0'",
            '2: health.bind: "127.0.0.1:0": expected a port from 1 to 65535',
        ),
        (
            "app = 'shop tasks'",
            '1: app: "shop tasks": expected "module:attribute", like "shop.tasks:app"',
        ),
        (
            "[scheduler]\ntimezone = 'Europe/Roma'",
            '2: scheduler.timezone: "Europe/Roma": expected a time zone, like "Europe/Rome"; did you mean "Europe/Rome"?',
        ),
        ("[queues]\nnames = ['a', 'a']", "2: queues.names: ['a', 'a']: queue \"a\" is given twice"),
        (
            "[queues]\nnames = ['a:0']",
            "2: queues.names: ['a:0']: weight 0 of queue 'a': expected a whole number from 1 to 1000",
        ),
        (
            "[queues]\nnames = ['a']\nweights = {b = 2}",
            '3: queues.weights: queue "b" is not among queues.names (prod.toml:2)',
        ),
        (
            "[storage]\nurl = 'memory://'",
            '2: storage.url: "memory://": memory:// lives inside one process, a daemon has several; use sqlite:// or redis://',
        ),
        (
            "burst = true\nreload = true",
            "2: reload: contradicts burst (prod.toml:1): it would never see a change",
        ),
        (
            "[workers]\nconcurrency = 4",
            '2: workers.concurrency: 4: a worker of type process (default) runs one job at a time; raise workers.count, or set workers.type = "thread"',
        ),
    ],
)
def test_bad_input_of_a_file_is_named(tmp_path: Path, text: str, error: str) -> None:
    assert errors(written(tmp_path, text)) == [f"prod.toml:{error}"]


def test_process_workers_with_one_slot_and_thread_workers_with_many_are_fine() -> None:
    assert load(workers__concurrency="1").settings.workers.concurrency == 1
    threads = load(workers__type="thread", workers__concurrency="8").settings.workers
    assert (threads.type, threads.concurrency) == ("thread", 8)


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


def test_the_file_of_the_flag_wins_over_the_one_of_the_environment(tmp_path: Path) -> None:
    file = written(tmp_path, "name = 'flag'")
    assert load(file, {"TASKQD_CONFIG": "/nowhere"}).settings.name == "flag"


def test_config_errors_are_config_errors_and_read_as_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        load(workers__count="0", shutdown__grace_s="-1")
    assert len(str(caught.value).splitlines()) == 2


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


@pytest.mark.parametrize(
    ("names", "expected", "weights"),
    [
        ("a", ("a",), {}),
        ("a, b", ("a", "b"), {}),
        ("a,b:2", ("a", "b"), {"a": 1, "b": 2}),
        (["a:3", "b"], ("a", "b"), {"a": 3, "b": 1}),
    ],
)
def test_queues_are_a_list_or_text_with_weights(
    names: object, expected: tuple[str, ...], weights: dict[str, int]
) -> None:
    queues = load(queues__names=names).settings.queues
    assert (queues.names, queues.weights) == (expected, weights)


def test_a_key_in_an_odd_spelling_is_taken_and_an_error_in_it_names_the_file(
    tmp_path: Path,
) -> None:
    assert load(written(tmp_path, '"work\\u0065rs".count = 3')).settings.workers.count == 3
    (error,) = errors(written(tmp_path, '"work\\u0065rs".count = 0'))
    assert error.startswith("prod.toml: workers.count: 0: expected")


def test_off_in_a_later_layer_lifts_a_bound(tmp_path: Path) -> None:
    file = written(tmp_path, "[workers]\nmax_jobs = 100\n")
    assert load(file).settings.workers.max_jobs == 100
    assert load(file, {"TASKQD_WORKERS__MAX_JOBS": "off"}).settings.workers.max_jobs is None


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


def test_no_error_shows_a_password(tmp_path: Path) -> None:
    file = written(tmp_path, "[storage]\nurl = 'redsi://user:hunter2@db/0?password=hunter2'")
    (error,) = errors(file)
    assert "hunter2" not in error
    assert "user:***@db" in error


@pytest.mark.parametrize("name", ["dev.toml", "prod.toml"])
def test_the_samples_are_valid(name: str) -> None:
    loaded = load(ROOT / "config" / name)
    assert loaded.settings.app
    assert (
        msgspec.json.decode(msgspec.json.encode(loaded.settings), type=Settings) == loaded.settings
    )

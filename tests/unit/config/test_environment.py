"""TASKQD_SECTION__KEY, short forms, secrets in files, credentials, and names that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskqd import config
from taskqd.config import ConfigErrors, LoadedConfig
from taskqd.config.keys import KEYS
from taskqd.config.table import as_written
from taskqd.settings import Settings, decode, encode


def refusers(env: dict[str, str]) -> set[str]:
    try:
        load(env)
    except ConfigErrors as error:
        return {problem.where for problem in error.problems}
    return set()


GOOD: dict[str, st.SearchStrategy[object]] = {
    "name": st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    "workers.count": st.integers(1, 512),
    "workers.nice": st.integers(-20, 19),
    "workers.type": st.sampled_from(["process", "thread", "greenlet", "asyncio"]),
    "shutdown.grace_s": st.integers(0, 86400),
    "scheduler.enabled": st.booleans(),
    "log.level": st.sampled_from(["debug", "info", "warning", "error", "critical"]),
    "limits.dead_max": st.integers(0, 10**9),
    "storage.node_lease_s": st.integers(1, 3600),
}


def load(env: dict[str, str]) -> LoadedConfig:
    return config.load(file=None, env=env, flags={})


def errors(env: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(env)
    return [str(problem) for problem in caught.value.problems]


@given(st.fixed_dictionaries({}, optional=GOOD))
def test_whatever_variables_are_set_they_and_only_they_change_the_settings(
    values: dict[str, object],
) -> None:
    loaded = load({KEYS[path].env: str(value) for path, value in values.items()})
    assert not loaded.warnings
    for path, key in KEYS.items():
        expected = values.get(path, as_written(Settings(), key))
        assert as_written(loaded.settings, key) == expected
        assert loaded.origins[path] == (key.env if path in values else "default")


TEXTS = (
    st.text(alphabet=st.characters(exclude_characters="\0"))
    | st.floats().map(str)
    | st.integers().map(str)
    | st.sampled_from(
        ["9" * 400, "9" * 400 + "s", "9" * 400 + "G", "-1", "off", "auto", "1e999", "nan"]
    )
)


@settings(max_examples=60)
@given(TEXTS)
def test_whatever_a_variable_holds_it_is_refused_by_name_or_reaches_the_children(text: str) -> None:
    for key in KEYS.values():
        refused = refusers({key.env: text})
        assert refused <= {key.env}
        if not refused:
            taken = load({key.env: text}).settings
            assert decode(encode(taken)) == taken


def test_short_forms_work_and_the_long_form_wins() -> None:
    assert load({"TASKQD_WORKERS": "3"}).settings.workers.count == 3
    assert load({"TASKQD_STORAGE": "sqlite:///a.db"}).settings.storage.url == "sqlite:///a.db"
    both = load({"TASKQD_WORKERS": "3", "TASKQD_WORKERS__COUNT": "5"})
    assert both.settings.workers.count == 5


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({"TASKQD_WORKERS": "", "TASKQD_CONFIG": ""}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("yes", True), ("OFF", False), ("false", False)]
)
def test_switches_have_many_spellings(text: str, value: bool) -> None:
    assert load({"TASKQD_SCHEDULER__ENABLED": text}).settings.scheduler.enabled is value


def test_a_secret_comes_from_a_file_without_its_newline(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:hunter2@db\n")
    loaded = load({"TASKQD_STORAGE_FILE": str(secret)})
    assert loaded.settings.storage.url == "redis://:hunter2@db"
    assert loaded.origins["storage.url"] == "TASKQD_STORAGE_FILE"


def test_log_file_is_a_key_and_no_secret_of_log(tmp_path: Path) -> None:
    assert load({"TASKQD_LOG__FILE": "/var/log/taskqd"}).settings.log.file == "/var/log/taskqd"
    (tmp_path / "name").write_text("/var/log/other")
    assert (
        load({"TASKQD_LOG__FILE_FILE": str(tmp_path / "name")}).settings.log.file
        == "/var/log/other"
    )


def test_a_secret_given_twice_or_missing_or_empty_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert errors({"TASKQD_STORAGE": "redis://db", "TASKQD_STORAGE_FILE": "/x"}) == [
        "TASKQD_STORAGE_FILE: storage.url: given together with TASKQD_STORAGE; keep one of them"
    ]
    assert errors({"TASKQD_STORAGE_FILE": "/nowhere"}) == [
        "TASKQD_STORAGE_FILE: storage.url: /nowhere: cannot be read: No such file or directory"
    ]
    assert errors({"TASKQD_STORAGE_FILE": f"{tmp_path}/empty"}) == [
        f"TASKQD_STORAGE_FILE: storage.url: {tmp_path}/empty: is empty"
    ]


def test_a_systemd_credential_is_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / "storage_url").write_text("redis://credential\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    loaded = load(env)
    assert loaded.settings.storage.url == "redis://credential"
    assert loaded.origins["storage.url"] == "credential storage_url"
    assert load({**env, "TASKQD_STORAGE": "redis://env"}).settings.storage.url == "redis://env"


def test_credentials_that_cannot_be_looked_at_are_an_error_and_no_traceback() -> None:
    found = errors({"CREDENTIALS_DIRECTORY": "/" + "x" * 300})
    assert found[0].startswith("credential storage_url: storage.url: /xxx")
    assert all(error.endswith("cannot be read: File name too long") for error in found)


def test_keys_come_from_a_file_a_credential_or_a_list_and_are_never_shown(tmp_path: Path) -> None:
    first, second = "first-key-of-many-bytes", "second-key-of-many-bytes"
    (tmp_path / "encryption_keys").write_text(f"{first}\n{second}\n")
    loaded = load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.settings.crypto.encryption_keys == (first, second)
    path = {"TASKQD_CRYPTO__SIGNING_KEYS_FILE": str(tmp_path / "encryption_keys")}
    assert load(path).settings.crypto.signing_keys == (first, second)
    assert as_written(loaded.settings, KEYS["crypto.encryption_keys"]) == ["***", "***"]
    (error,) = errors({"TASKQD_CRYPTO__SIGNING_KEYS": "hunter2 " + first})
    assert error.endswith(
        "***: expected keys of at least 16 bytes each, as from `openssl rand -base64 32`"
    )
    assert "hunter2" not in error


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("TASKQD_WORKES", '; did you mean "TASKQD_WORKERS"?'),
        ("TASKQD_WORKERS_COUNT", '; did you mean "TASKQD_WORKERS__COUNT"?'),
        ("TASKQD_workers__count", '; did you mean "TASKQD_WORKERS__COUNT"?'),
        ("TASKQD_CONFG", '; did you mean "TASKQD_CONFIG"?'),
        ("TASKQD_ZZZZZZZZZZZZZZ", ""),
    ],
)
def test_a_variable_that_means_nothing_is_a_warning(name: str, suggestion: str) -> None:
    loaded = load({name: "1"})
    assert loaded.settings == Settings()
    assert loaded.warnings == [f"{name}: unknown variable, ignored{suggestion}"]


@pytest.mark.parametrize(
    "name",
    [
        "TASKQD_CHILD_CONTEXT",
        "TASKQD_SERVICE_HOST",
        "TASKQD_PORT_7430_TCP_ADDR",
        "TASKQD_PORT",
        "TASKQD_WEB_SERVICE_PORT_HTTP",
    ],
)
def test_our_own_and_kubernetes_variables_are_left_alone(name: str) -> None:
    assert not load({name: "tcp://10.0.0.1:7430"}).warnings


def test_a_mark_above_one_that_nobody_chose_was_blamed_on_the_default() -> None:
    assert refusers({"TASKQD_LIMITS__MEMORY_RECYCLE_PERCENT": "91"}) == {
        "TASKQD_LIMITS__MEMORY_RECYCLE_PERCENT"
    }

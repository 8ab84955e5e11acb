"""Reads the configuration from variables (TASKQD_SECTION__KEY, short forms, `..._FILE`) and from
systemd's credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from .given import Findings, Given
from .keys import KEYS, Key
from .suggest import did_you_mean

PREFIX = "TASKQD_"
CONFIG = "TASKQD_CONFIG"
SECRET_BYTES_MAX = 64 * 1024
_OURS = frozenset({CONFIG, "TASKQD_CHILD_CONTEXT"})
_KUBERNETES = re.compile(r"TASKQD_(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_\w+)?)")
"""Variables in which Kubernetes describes a service called taskqd to every pod beside it."""

_LONG: dict[str, Key] = {key.env: key for key in KEYS.values()}
_SHORT: dict[str, Key] = {key.short_env: key for key in KEYS.values() if key.short_env}
_NAMES = {**_SHORT, **_LONG}


def read_environment(env: Mapping[str, str], findings: Findings) -> list[Given]:
    """Return the values of credentials, then those of variables; empty variables count as unset.

    Variables of our prefix that mean nothing are warnings, not errors: another tool may own them.
    """
    ours = {name: value for name, value in env.items() if name.startswith(PREFIX) and value}
    given = [*_credentials(env, findings)]
    for names in (_SHORT, _LONG):
        for name, key in names.items():
            given += _variable(name, key, ours, findings)
    _warn_of_strangers(ours, findings)
    return given


def _variable(name: str, key: Key, ours: Mapping[str, str], findings: Findings) -> list[Given]:
    file_name = f"{name}_FILE"
    if file_name in ours and file_name not in _LONG:
        if name in ours:
            findings.reject(file_name, key.path, f"given together with {name}; keep one of them")
            return []
        value = _read_secret(Path(ours[file_name]), file_name, key.path, findings)
        return [] if value is None else [Given(key.path, value, file_name, is_text=True)]
    return [Given(key.path, ours[name], name, is_text=True)] if name in ours else []


def _credentials(env: Mapping[str, str], findings: Findings) -> list[Given]:
    directory = env.get("CREDENTIALS_DIRECTORY")
    given = []
    for key in KEYS.values() if directory else ():
        path = Path(directory or "", key.credential)
        if key.credential and _may_be_there(path):
            where = f"credential {key.credential}"
            value = _read_secret(path, where, key.path, findings)
            given += [] if value is None else [Given(key.path, value, where, is_text=True)]
    return given


def _may_be_there(path: Path) -> bool:
    """Return False only where there is no such file; an unreadable one is reported later."""
    try:
        return path.is_file()
    except OSError:
        return True


def _read_secret(path: Path, where: str, key: str, findings: Findings) -> str | None:
    """Return the file's text without the newline at its end."""
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except OSError as error:
        findings.reject(where, key, f"{path}: cannot be read: {error.strerror}")
        return None
    except ValueError:
        findings.reject(where, key, f"{path}: is not text in UTF-8")
        return None
    if not text:
        findings.reject(where, key, f"{path}: is empty")
    return text or None


def _warn_of_strangers(ours: Mapping[str, str], findings: Findings) -> None:
    known = {*_NAMES, *(f"{name}_FILE" for name in _NAMES), *_OURS}
    for name in sorted(set(ours) - known):
        if not _KUBERNETES.fullmatch(name):
            near = _same_words(name) or did_you_mean(name, sorted({*_NAMES, CONFIG}))
            findings.warn(name, f"unknown variable, ignored{near}")


def _same_words(name: str) -> str:
    """Return the suggestion for a name whose only fault is its underscores or letter case."""
    plain = name.upper().replace("__", "_")
    found = next((known for known in _LONG if known.replace("__", "_") == plain), None)
    return f'; did you mean "{found}"?' if found else ""

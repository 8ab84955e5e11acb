"""The catalogue of keys is whole, and every default is a value that its key accepts."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from taskqd.config.keys import KEYS
from taskqd.config.table import as_written
from taskqd.settings import Settings


def fields(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from fields(field.type, f"{field.name}.")
        else:
            yield prefix + field.encode_name


def test_every_field_of_the_settings_has_exactly_one_key() -> None:
    assert sorted(key.target for key in KEYS.values()) == sorted(fields(Settings))


def test_no_two_keys_share_a_variable_or_a_flag() -> None:
    names = [name for key in KEYS.values() for name in (key.env, key.short_env, key.flag) if name]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", KEYS)
def test_a_default_as_it_is_written_is_accepted_and_means_the_default(path: str) -> None:
    key = KEYS[path]
    value = as_written(Settings(), key)
    if value is None or value == [] or path == "app":
        return
    section, _, name = key.target.rpartition(".")
    holder = getattr(Settings(), section) if section else Settings()
    assert key.kind.parse(value) == getattr(holder, name)

"""A call of the contract is found by the name of its section, in each storage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqd.storage import base, features
from taskqd.storage.memory import MemoryStorage
from taskqd.storage.redis import RedisStorage
from taskqd.storage.sqlite import SqliteStorage

STORAGES = (MemoryStorage, SqliteStorage, RedisStorage)


def _sections() -> Iterator[tuple[str, str]]:
    """Yield (section, method) as the contract lists them."""
    for module in (base, features):
        assert module.__file__ is not None
        text = Path(module.__file__).read_text("utf-8")
        for part in text.split("    # -- ")[1:]:
            section = re.split(r"\W", part, maxsplit=1)[0]
            for method in re.findall(r"^    def (\w+)\(", part, re.MULTILINE):
                if section != "the":  # of the storage itself: where it suits
                    yield section, method


CALLS = sorted(_sections())


def test_the_contract_has_its_sections() -> None:
    assert len(CALLS) > 50
    assert {section for section, _ in CALLS} == {
        *("enqueue", "leases", "nodes", "timers", "answers", "control", "views"),
        *("notes", "revocations", "limits", "groups", "parked"),
    }


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.__name__)
def test_each_call_stands_in_the_module_of_its_section(storage: type) -> None:
    package = storage.__module__.rpartition(".")[0]
    strays = {
        f"{section}: {method}: {getattr(storage, method).__module__}"
        for section, method in CALLS
        if getattr(storage, method).__module__ != f"{package}.{section}"
    }
    assert not strays

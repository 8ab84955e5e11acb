"""A storage whose calls fail at random, before or after they took effect."""

from __future__ import annotations

import random
from typing import Any

from taskqd.errors import OutcomeUnknown, StorageUnavailable
from taskqd.storage.base import Storage

CALLS = ("turn", "settle", "release", "holdings", "bell")


class FailingStorage:
    """Passes everything on to `storage`; a `share` of the calls of a pump fail, half of them late."""

    def __init__(self, storage: Storage, seed: int, share: float) -> None:
        self.calm = storage
        self.share = share
        self.failures = 0
        self._chance = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.calm, name)
        if name not in CALLS or not self.share:
            return found
        fate = self._chance.random() / self.share
        if fate >= 1:
            return found
        self.failures += 1
        return _lose(found) if fate < 0.5 and name != "bell" else _refuse


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise StorageUnavailable("a storage that fails")


def _lose(call: Any) -> Any:
    def lost(*args: Any, **kwargs: Any) -> Any:
        call(*args, **kwargs)
        raise OutcomeUnknown("a storage that fails took the reply")

    return lost

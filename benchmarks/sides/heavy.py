"""100 MB of an app's objects, as imports, models and caches leave them; standard library only."""

from __future__ import annotations

import gc
import os

ITEMS = 190_000
READ = 1_000

DATA = [
    {"id": number, "name": f"item {number}", "tags": [str(number), f"tag-{number % 977}"]}
    for number in range(ITEMS)
]

_collected = False


def touch() -> int:
    """Do what every worker does sooner or later: collect garbage once, read some objects."""
    global _collected
    if not _collected:
        _collected = True
        gc.collect()
    assert sum(len(str(item["name"])) for item in DATA[:READ]) > READ
    return os.getpid()

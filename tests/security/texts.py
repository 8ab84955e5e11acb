"""Reads spoilt configurations, crontabs and URLs: `python -m tests.security.texts --cases 100000`.

What may be raised is ConfigError; nothing may take long.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from taskqd import ConfigError, crontab, every
from taskqd.config import ConfigErrors, load
from taskqd.periodic.cron import zone_of
from taskqd.urls import mask_url, scheme_of

from .mutate import spoil

_CRONTABS = (
    b"*/5 * * * *",
    b"30 2 * * mon-fri",
    b"0 0 1,15 jan-mar *",
    b"15 10 L * *",
    b"0 0 * * 5#2",
    b"10 */7 1-31/2 * sun",
    b"0 30 2 29 2 *",
    b"@daily",
)
_URLS = (
    b"redis://user:secret@localhost:6379/0?timeout=5",
    b"unix:///run/redis.sock?db=2",
    b"redis+sentinel://a:26379,b/mymaster/0",
    b"sqlite:////srv/taskqd.db?synchronous=full",
)
_ZONES = (b"Europe/Rome", b"UTC", b"../../etc/passwd", b"Australia/Lord_Howe")
_CONFIG = Path(__file__).parents[2] / "config" / "prod.toml"
_NOW_MS = 1_790_000_000_000


def crontabs(rng: random.Random) -> str:
    text = spoil(rng, _CRONTABS).decode("utf-8", "surrogateescape")
    try:
        crontab(text).next_after(_NOW_MS)
    except ConfigError:
        return "crontab refused"
    return "crontab taken"


def periods(rng: random.Random) -> str:
    value = rng.choice([0, -1, 1e-9, 1e300, float("inf"), float("nan"), rng.uniform(0, 1e6)])
    try:
        every(seconds=value).next_after(_NOW_MS)
    except ConfigError:
        return "period refused"
    return "period taken"


def zones(rng: random.Random) -> str:
    try:
        zone_of(spoil(rng, _ZONES).decode("utf-8", "surrogateescape"))
    except ConfigError:
        return "zone refused"
    return "zone taken"


def urls(rng: random.Random) -> str:
    text = spoil(rng, _URLS).decode("utf-8", "surrogateescape")
    # The path of a file may hold an `@` that ends no password.
    assert ":secret@" not in mask_url(text) or scheme_of(text) in ("sqlite", "memory"), text
    try:
        load(file=None, env={}, flags={"storage.url": text, "app": "shop:app"})
    except ConfigErrors:
        return "URL refused"
    return "URL taken"


def configurations(rng: random.Random, path: Path) -> str:
    path.write_bytes(spoil(rng, (_CONFIG.read_bytes(),)))
    try:
        load(file=path, env={}, flags={})
    except ConfigErrors:
        return "configuration refused"
    return "configuration taken"


def run(cases: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prod.toml")
        for number in range(cases):
            if number % 10 == 0:
                found[configurations(rng, path)] += 1
            else:
                look = rng.choice((crontabs, crontabs, periods, zones, urls))
                found[look(rng)] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for how, times in run(given.cases, given.seed).most_common():
        sys.stdout.write(f"{times:>8,}  {how}\n")


if __name__ == "__main__":
    main()

"""Opens spoilt records as a worker would: `python -m tests.security.payloads --cases 100000`."""

from __future__ import annotations

import argparse
import itertools
import pickle
import random
import resource
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from taskqd import App, TaskqdError
from taskqd.clock import now_ms
from taskqd.execution.runner import Runner
from taskqd.immediate import CallersSlot
from taskqd.jobs.job import Answer, Failure, Lease, Marks, encode_answer, join_record
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings

from .mutate import spoil

RAN: list[str] = []
"""Canary: what a payload made run that no task of ours is."""
MEMORY_BYTES_MAX = 200 * 1024 * 1024
"""How much more than at its start the process may ever have held."""


class Bomb:
    """Tells on whoever unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _sing, ("a pickle was loaded",)


def _sing(text: str) -> None:
    RAN.append(text)


@dataclass
class Order:
    number: int
    when: datetime
    lines: list[dict[str, float]]


def make_app(signed: bool) -> App:
    app = App("fuzz", "memory://fuzz", signing_keys=["k" * 32] if signed else None)

    @app.task(name="plain")
    def plain(a: int, b: str = "x") -> str:
        return b * min(a, 3)

    @app.task(name="typed", retries=2, unique="args", expires=60)
    def typed(order: Order, path: Path) -> int:
        return order.number

    @app.task(name="loose")
    def loose(*args: object, **kwargs: object) -> None: ...

    return app


def samples(app: App) -> list[bytes]:
    plain, typed, loose = (app.registry[name] for name in ("plain", "typed", "loose"))
    order = Order(1, datetime(2026, 1, 1), [{"price": 1.5}])
    calls = [
        plain.s(1, b="y"),
        plain.options(priority=7, expires=9, id="job-1").s(2),
        typed.s(order, Path("/x")),
        loose.s(1, None, {"a": [1, 2]}, deep={"b": {"c": "d"}}),
        plain.s(1).then(loose, 2).then(plain, b="z").error(loose),
    ]
    entries = [app.entry(call) for call in calls]
    marked = [
        join_record(Marks(2, 1, 0, 1, "signal SIGSEGV"), entry.payload) for entry in entries[:2]
    ]
    bombs = [pickle.dumps(Bomb()), b'{"t":"plain","z":"pickle","b":"' + _base64_bomb() + b'"}']
    return [entry.payload for entry in entries] + marked + bombs


def _base64_bomb() -> bytes:
    import base64

    return base64.b64encode(pickle.dumps(Bomb()))


def run(cases: int, seed: int) -> Counter[str]:
    """Open and run `cases` spoilt records; return how they ended.  Raises what escapes."""
    rng = random.Random(seed)
    log = configure(role="test", level="critical")
    found: Counter[str] = Counter()
    apps = [make_app(signed) for signed in (False, True)]
    runners = [Runner(app, LimitSettings(), log) for app in apps]
    stock = [samples(app) for app in apps]
    tokens = itertools.count(1)
    place = CallersSlot()
    before = _peak_bytes()
    for _ in range(cases):
        which = rng.randrange(2)
        record = spoil(rng, stock[which])
        lease = Lease(f"job-{rng.randrange(5)}", "default", next(tokens), record)
        outcome = runners[which].run(lease, place)
        found[f"{outcome.kind} {outcome.reason}".strip()] += 1
    place.close()
    assert not RAN, RAN
    grown = _peak_bytes() - before
    assert grown < MEMORY_BYTES_MAX, f"memory grew by {grown / 2**20:.0f} MiB"
    return found


def run_answers(cases: int, seed: int) -> Counter[str]:
    """Read spoilt results as a caller would; what may be raised is a TaskqdError."""
    rng = random.Random(seed)
    app = make_app(signed=False)
    failure = Failure("ValueError", "no", "Traceback ...")
    answers = [
        encode_answer(Answer("done", 1, now_ms(), 60, value=msgspec.Raw(b'{"a":[1,2]}'))),
        encode_answer(Answer("dead", 1, now_ms(), 60, reason="failed", failure=failure)),
        encode_answer(Answer("cancelled", 1, now_ms(), 60, reason="revoked")),
        pickle.dumps(Bomb()),
    ]
    found: Counter[str] = Counter()
    for _ in range(cases):
        result = app.result("job-1")
        try:
            if result._keep(spoil(rng, answers)):
                result.get(timeout=0)
                found["read"] += 1
        except TaskqdError as error:
            found[type(error).__name__] += 1
    assert not RAN, RAN
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for what, look in (("payloads", run), ("results", run_answers)):
        for how, times in look(given.cases, given.seed).most_common():
            sys.stdout.write(f"{times:>8,}  {how}\n")
        sys.stdout.write(f"{given.cases:,} spoilt {what}, seed {given.seed}: no code ran\n\n")


if __name__ == "__main__":
    main()

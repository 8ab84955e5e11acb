"""An app whose jobs are under way while their storage is away; see outages.py.

Each writes down its begin and its end; `crashes` is what its record said when it began.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from taskqd import App, current_job
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.ledger import Ledger

NAMESPACE = "away"
LOCK, PLACES = "gate", 2
app = App(NAMESPACE)
_ledger = Ledger(os.environ.get(LEDGER_ENV, os.devnull))


@contextmanager
def witness(kind: str) -> Iterator[None]:
    """Write down that this attempt begins, and that its body has ended."""
    job = current_job()
    facts = {"id": job.id, "kind": kind, "token": job.token, "attempt": job.attempt}
    _ledger.write("begin", crashes=job.crashes, interruptions=job.interruptions, **facts)
    yield
    _ledger.write("end", **facts)


@app.task(name="short")
def short(number: int) -> int:
    with witness("short"):
        return number


@app.task(name="long")
def long(for_s: float) -> float:
    with witness("long"):
        time.sleep(for_s)
    return for_s


@app.task(name="once", at_most_once=True)
def once(for_s: float) -> float:
    with witness("once"):
        time.sleep(for_s)
    return for_s


@app.task(name="locked", lock=LOCK, on_locked="requeue")
def locked(for_s: float) -> None:
    with witness("locked"):
        job = current_job()
        facts = {"id": job.id, "token": job.token, "name": LOCK}
        _ledger.write("lock", **facts)
        time.sleep(for_s)
        _ledger.write("unlock", **facts)


@app.task(name="few", max_running=PLACES)
def few(for_s: float) -> None:
    with witness("few"):
        time.sleep(for_s)


@app.task(name="next")
def then(value: float, more: float = 0.0) -> float:
    with witness("next"):
        return value + more


@app.task(name="sum")
def total(values: list[float]) -> float:
    with witness("sum"):
        return sum(values)

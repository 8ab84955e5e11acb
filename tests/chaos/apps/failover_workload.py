"""An app whose jobs go to several queues while their servers die and slots move; see failovers.py."""

from __future__ import annotations

import os
from collections.abc import Sequence

from taskqd import App, current_job
from tests.chaos.apps.workload import LEDGER_ENV
from tests.chaos.ledger import Ledger

NAMESPACE = "over"
app = App(NAMESPACE)
_ledger = Ledger(os.environ.get(LEDGER_ENV, os.devnull))


def _witness(kind: str, queue: str) -> None:
    """Write down that a job of this queue has begun."""
    job = current_job()
    _ledger.write("begin", id=job.id, kind=kind, token=job.token, name=queue, crashes=job.crashes)


@app.task(name="short")
def short(queue: str, number: int) -> int:
    _witness("short", queue)
    return number


@app.task(name="next")
def then(number: int = 0, queue: str = "") -> int:
    _witness("next", queue)
    return number + 1


@app.task(name="sum")
def total(values: Sequence[int] = (), queue: str = "") -> int:
    _witness("sum", queue)
    return sum(values)

"""The app of the chord that is tormented: every start of a member is written down outside."""

from __future__ import annotations

import os
import time

from taskqd import App
from taskqd.client.composition import Failed, Skipped

NAMESPACE = "chord"
LEDGER_ENV = "CHORD_LEDGER"
PATIENT = 1_000_000
"""Crashes that a job may suffer: here they come from outside."""

app = App(NAMESPACE)


def _note(word: str) -> None:
    """Append one line in one write: lines of several processes stay whole."""
    fd = os.open(os.environ[LEDGER_ENV], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


@app.task(name="member", max_crashes=PATIENT)
def member(number: int, work_ms: float) -> int:
    _note(str(number))
    time.sleep(work_ms / 1000)
    return number


@app.task(name="gather", max_crashes=PATIENT)
def gather(values: list[int]) -> dict[str, int]:
    _note("gather")
    odd = sum(isinstance(value, (Failed, Skipped)) for value in values)
    good = [value for value in values if isinstance(value, int)]
    return {"members": len(values), "sum": sum(good), "without": odd}

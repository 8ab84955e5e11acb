"""An app whose jobs contend: for locks, for places, for a rate, for a key; see contention.py."""

from __future__ import annotations

import os
import time

from taskqd import TaskLockedException, current_job
from tests.chaos.apps.workload import LEDGER_ENV, PATIENT, Meant
from tests.chaos.faults.failpoints import AppUnderFire
from tests.chaos.ledger import Ledger

NAMESPACE = "contest"
app = AppUnderFire(NAMESPACE)
_ledger = Ledger(os.environ.get(LEDGER_ENV, os.devnull))


def _hold(name: str, for_s: float) -> None:
    """Write down that this job has the lock; its fencing token is the storage's business."""
    facts = {"id": current_job().id, "name": name, "token": current_job().token}
    _ledger.write("lock", **facts)
    time.sleep(for_s)
    _ledger.write("unlock", **facts)


@app.task(name="by_option", lock="{name}", on_locked="requeue", max_crashes=PATIENT)
def by_option(name: str, for_s: float) -> None:
    _hold(name, for_s)


@app.task(name="in_code", retries=10_000, retry_delay=0.02, max_crashes=PATIENT)
def in_code(name: str, for_s: float) -> None:
    """Not at the first try: the lock is taken in the task's own code."""
    try:
        with app.lock_task(name, wait=5.0):
            _hold(name, for_s)
    except TaskLockedException as error:
        raise Meant("held") from error


@app.task(name="limited", rate_limit="5/s", max_crashes=PATIENT)
def limited() -> None:
    _ledger.write("begin", id=current_job().id, kind="limited", token=current_job().token)


# -- what might leave something behind ------------------------------------------------------------


@app.task(name="plain", max_crashes=PATIENT)
def plain(number: int) -> int:
    return number


@app.task(name="fails", retries=2, retry_delay=0.02, max_crashes=PATIENT)
def fails(number: int) -> None:
    if current_job().failures < number % 5:
        raise Meant("not yet")


@app.task(name="brisk", rate_limit="300/s", max_crashes=PATIENT)
def brisk() -> None:
    pass


@app.task(name="notes", retries=1, retry_delay=0.01, max_crashes=PATIENT)
def notes(number: int) -> int:
    job = current_job()
    job.checkpoint({"number": number})
    job.progress(1, 2)
    if job.once("first") and number % 3 == 0:
        raise Meant("after a note")
    return number


@app.task(name="sole", unique="key:{key}", max_crashes=PATIENT)
def sole(key: int) -> None:
    time.sleep(0.002)


@app.task(name="few", max_running=2, max_crashes=PATIENT)
def few() -> None:
    time.sleep(0.002)


@app.task(name="slow", max_crashes=PATIENT)
def slow(for_s: float) -> None:
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s:
        current_job().check()
        time.sleep(0.01)


@app.task(name="total", max_crashes=PATIENT)
def total(values: list[object]) -> int:
    return len(values)

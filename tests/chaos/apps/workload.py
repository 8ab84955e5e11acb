"""The app under fire: tasks of every temper, each of which writes what happens to it in the ledger.

The checker judges a job by the name of its task: what `doomed`, `killer` and `once` may come to is
written there (`checker.DEATHS`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from taskqd import current_job, every
from taskqd.errors import JobInterrupted
from tests.chaos.faults.failpoints import AppUnderFire
from tests.chaos.ledger import Ledger

LEDGER_ENV = "CHAOS_LEDGER"
NAMESPACE = "chaos"
PATIENT = 1_000_000
"""Crashes that a job which is no killer may suffer: here they come from outside."""

TELLS_ITS_ID = {"noop", "each", "once", "fragile", "coro"}
OVERDUE_S = 0.5
RUDE = {
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "close": GeneratorExit,
    "cancel": asyncio.CancelledError,
    "memory": MemoryError,
}

app = AppUnderFire(NAMESPACE)
_ledger = Ledger(os.environ.get(LEDGER_ENV, os.devnull))


@contextmanager
def witness(due: int = 0) -> Iterator[None]:
    job = current_job()
    tick = job.scheduled_at
    facts = {
        "id": job.id,
        "kind": job.task,
        "token": job.token,
        "attempt": job.attempt,
        "failures": job.failures,
        "interruptions": job.interruptions,
        "crashes": job.crashes,
        "tick": 0 if tick is None else round(tick.timestamp() * 1000),
        "due": due,
    }
    _ledger.write("begin", **facts)
    try:
        yield
    except JobInterrupted:
        _ledger.write("stop", **facts)
        raise
    except BaseException:
        _ledger.write("raise", **facts)
        raise
    else:
        _ledger.write("end", **facts)


def crash(how: str) -> None:
    """End this process as a job can: by a fault in C code, an exit, a signal."""
    job = current_job()
    _ledger.write("crash", id=job.id, kind=job.task, token=job.token)
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    os.kill(os.getpid(), signal.SIGKILL)


class Meant(Exception):
    """What tasks raise that are meant to fail."""


@app.task(name="noop", max_crashes=PATIENT)
def noop() -> str:
    with witness():
        return current_job().id


@app.task(name="work", max_crashes=PATIENT)
def work(for_s: float) -> float:
    with witness():
        time.sleep(for_s)
    return for_s


@app.task(name="urgent", max_crashes=PATIENT)
def urgent() -> None:
    with witness():
        time.sleep(0.002)


@app.task(name="side", queue="side", max_crashes=PATIENT)
def side(text: str) -> str:
    with witness():
        time.sleep(0.001)
    return text


@app.task(name="delayed", max_crashes=PATIENT)
def delayed(due_ms: int) -> None:
    with witness(due_ms):
        pass


@app.task(name="flaky", retries=5, retry_delay=0.05, retry_backoff=2.0, max_crashes=PATIENT)
def flaky() -> None:
    with witness():
        if current_job().failures < 2:
            raise Meant("not yet")


@app.task(name="doomed", retries=2, retry_delay=0.02, max_crashes=PATIENT)
def doomed() -> None:
    with witness():
        raise Meant("never")


@app.task(name="each", ack="each", max_crashes=PATIENT)
def each() -> str:
    with witness():
        time.sleep(0.001)
        return current_job().id


@app.task(name="once", at_most_once=True)
def once() -> str:
    with witness():
        time.sleep(0.002)
        return current_job().id


@app.task(name="fragile")
def fragile() -> str:
    """As noop, but it may be taken for a killer."""
    with witness():
        time.sleep(0.02)
        return current_job().id


@app.task(name="killer", max_crashes=3)
def killer(how: str) -> None:
    with witness():
        time.sleep(0.01)
        crash(how)


@app.task(name="rude", max_crashes=PATIENT)
def rude(what: str) -> None:
    """Raises what is no Exception; it is a failure all the same, and costs no worker."""
    with witness():
        raise RUDE[what]("meant")


@app.task(name="coro", max_crashes=PATIENT)
async def coro() -> str:
    with witness():
        await asyncio.sleep(0.005)
        return current_job().id


@app.task(name="locked", lock="door", on_locked="requeue", max_crashes=PATIENT)
def locked(for_s: float) -> None:
    with witness():
        facts = {"id": current_job().id, "kind": "locked", "name": "door"}
        _ledger.write("lock", **facts)
        time.sleep(for_s)
        _ledger.write("unlock", **facts)


@app.task(name="overdue", timeout=OVERDUE_S, max_crashes=2)
def overdue() -> None:
    """Sleeps where nothing can wake it; a process worker is killed for it."""
    with witness():
        time.sleep(6 * OVERDUE_S)


@app.task(name="long", max_crashes=PATIENT)
def long(for_s: float) -> None:
    """Stops where it is safe."""
    until_s = time.monotonic() + for_s
    with witness():
        while time.monotonic() < until_s:
            current_job().check()
            time.sleep(0.05)


@app.task(name="stubborn", max_crashes=PATIENT)
def stubborn(for_s: float) -> None:
    """Does not care that its worker stops."""
    with witness():
        time.sleep(for_s)


# "all": on a machine that others load too, a scheduler may be away for longer than a tick may be late.
@app.periodic_task(every(seconds=1), name="tick", max_crashes=PATIENT, missed="all")
def tick() -> None:
    with witness():
        pass


@app.periodic_task(every(seconds=1), name="tock", queue="side", max_crashes=PATIENT, missed="all")
def tock() -> None:
    with witness():
        pass

"""An app for greenlets: what it finds at import, and tasks that wait for one another."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time

import gevent
from gevent.monkey import is_module_patched

from taskqd import App, TaskTimeout, current_job
from tests.support.apps.shop import note

app = App("green")
patched = [name for name in ("socket", "threading", "time", "select") if is_module_patched(name)]
early = gevent.spawn(lambda: "a loop that was made before the fork")
early.join()
seen: list[str] = []


@app.on_startup()
def start() -> None:
    gevent.sleep(0)
    seen.append("startup")


@app.task()
def what_is_patched() -> list[str]:
    return patched


@app.task()
def one(n: int) -> int:
    return n


@app.task()
def asks_another(n: int) -> int:
    """Enqueue a job and wait for it, in the only worker there is."""
    return one(n).get(timeout=60)


@app.task()
def asks_from_a_thread(n: int) -> int:
    """The same, in a thread of the system that the user has made."""
    answer: int = gevent.get_hub().threadpool.apply(lambda: one(n).get(timeout=60))
    return answer


@app.task()
def meets(n: int) -> list[str]:
    """Wait until all have begun; each still sees itself."""
    job = current_job()
    seen.append(job.id)
    while len(seen) < n + 1:
        time.sleep(0.01)
    again = current_job()
    again.checkpoint({"met": n})
    return [job.id, again.id, again.checkpointed["met"] == n and "kept"]


@app.task()
async def ameets(n: int) -> str:
    seen.append(current_job().id)
    await asyncio.sleep(0.3)
    assert len(seen) == n + 1
    assert await one(n).aget(timeout=60) == n
    return current_job().id


@app.task()
def locked(name: str) -> int:
    with app.lock_task(name, wait=60):
        inside = threading.get_ident()
        time.sleep(0.05)
    return inside


@app.task()
def kind_of_socket() -> str:
    with socket.socket() as opened:
        return type(opened).__module__


@app.task()
def holds_on(n: int) -> list[int]:
    """Wait for ever at the first attempt, and tell of the end in a `finally`."""
    note(f"begin {n} pid {os.getpid()}")
    try:
        if current_job().attempt == 1:
            time.sleep(600)
    finally:
        note(f"cleaned {n}")
    job = current_job()
    return [job.attempt, job.failures, job.interruptions, job.crashes]


@app.task(timeout=1.0)
def sleeps_too_long() -> None:
    try:
        time.sleep(600)
    finally:
        note("cleaned sleeper")


@app.task(soft_timeout=0.5)
def sleeps_softly() -> str:
    try:
        time.sleep(600)
    except TaskTimeout as late:
        return str(late)
    return "never"


@app.task(timeout=0.5)
async def awaits_too_long() -> None:
    try:
        await asyncio.sleep(600)
    finally:
        note("cleaned coroutine")


@app.task(timeout=1.0)
def computes_too_long() -> None:
    note(f"begin hog pid {os.getpid()}")
    while True:
        pass


@app.task(ack="each")
def each(n: int) -> int:
    return n


@app.signal("enqueued")
def told(_signal: str, job: object, _exc: BaseException | None = None) -> None:
    """Wait as handlers may; the worker's loop, which has enqueued the next stage, does not."""
    gevent.sleep(0)
    note(f"told {getattr(job, 'task', '')}")

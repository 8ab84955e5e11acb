"""Tasks of the shop that are stopped: each writes down what it saw."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from taskqd import JobInterrupted, TaskTimeout, current_job
from tests.support.apps.shop import app, history, note


@app.task(soft_timeout=0.5, timeout=20)
def softly() -> None:
    try:
        time.sleep(600)
    except TaskTimeout:
        note("cleaned up")
        raise


@app.task(soft_timeout=0.5, timeout=20)
def softly_by_check() -> None:
    while True:
        current_job().check()
        time.sleep(0.02)


@app.task(soft_timeout=0.5, timeout=20)
async def softly_async() -> None:
    try:
        await asyncio.sleep(600)
    finally:
        note("cleaned up")


@app.task(timeout=0.5)
async def endless_async() -> None:
    await asyncio.sleep(600)


@app.task(timeout=1.0, retries=1, retry_delay=1.0, retry_jitter=False)
def late_once() -> float:
    """Return how long the retry has waited since the first attempt began."""
    if current_job().attempt == 1:
        note(f"at {time.time()}")
        time.sleep(600)
    return time.time()


@app.task()
def saves() -> dict[str, Any]:
    job = current_job()
    note(f"begin saves pid {os.getpid()}")
    if job.attempt > 1:
        return {**history(), "saved": job.checkpointed}
    try:
        time.sleep(600)
    except JobInterrupted:
        job.checkpoint("sync")
        raise
    raise AssertionError


@app.task()
async def saves_async() -> dict[str, Any]:
    job = current_job()
    note(f"begin asaves pid {os.getpid()}")
    if job.attempt > 1:
        return {**history(), "saved": job.checkpointed}
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        job.checkpoint("async")
        raise
    raise AssertionError


@app.task(retries=5)
def stubborn() -> None:
    note(f"begin stubborn pid {os.getpid()}")
    while True:
        try:
            time.sleep(600)
        except JobInterrupted:
            note("refused")


@app.task(retries=5)
def gives_up() -> None:
    """Fail when it is asked to stop, as if by accident."""
    note(f"begin gives pid {os.getpid()}")
    try:
        time.sleep(600)
    except JobInterrupted:
        raise ValueError("while it cleaned up") from None

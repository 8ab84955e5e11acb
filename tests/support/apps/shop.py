"""The app that tests of the whole daemon run.  What its tasks do is written down in $SHOP_LEDGER."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from taskqd import App, current_job

app = App("shop")

if os.environ.get("SHOP_HOOK"):

    @app.on_startup()
    def crash() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


def note(word: str) -> None:
    """Append one line in one write: lines of several processes stay whole."""
    fd = os.open(os.environ["SHOP_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def history() -> dict[str, Any]:
    job = current_job()
    return {
        "attempt": job.attempt,
        "failures": job.failures,
        "interruptions": job.interruptions,
        "crashes": job.crashes,
    }


@app.task()
def quick(n: int) -> int:
    return n


@app.task()
def hold(n: int) -> dict[str, Any]:
    """Run for ever at the first attempt, and end at once at any later one."""
    note(f"begin {n} pid {os.getpid()}")
    if current_job().attempt == 1:
        time.sleep(600)
    note(f"end {n}")
    return history()


@app.task()
def nap(n: int, seconds: float) -> dict[str, Any]:
    note(f"begin {n} pid {os.getpid()}")
    time.sleep(seconds)
    note(f"end {n}")
    return history()


@app.task(max_crashes=3)
def die() -> None:
    note("die")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(timeout=1.0, max_crashes=1)
def endless() -> None:
    note(f"begin endless pid {os.getpid()}")
    while True:
        time.sleep(0.1)


@app.task(timeout=1.0, retries=1)
def slow_at_first() -> dict[str, Any]:
    if current_job().attempt == 1:
        time.sleep(600)
    return history()


@app.task()
def parent_of_orphans() -> dict[str, Any]:
    """Start a program that outlives its worker, if it is let."""
    import subprocess

    if current_job().attempt == 1:
        program = subprocess.Popen(["sleep", "600"])
        note(f"begin orphan pid {program.pid}")
        time.sleep(600)
    return history()


@app.task()
def hog(seconds: float) -> dict[str, Any]:
    """Compute in C code that lets no other thread run."""
    begun = time.monotonic()
    sum(range(20_000_000))
    rate = 20_000_000 / (time.monotonic() - begun)
    note(f"begin hog pid {os.getpid()}")
    sum(range(int(rate * seconds)))
    return history()


@app.task()
def freeze() -> dict[str, Any]:
    """Stop the whole process, as a debugger or a deadlock in C code would, at the first attempt."""
    note(f"begin freeze pid {os.getpid()}")
    if current_job().attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return history()


@app.task()
def chain(n: int) -> int:
    quick(n)
    return n


def _until_told(name: str, n: int) -> int:
    """Run until the gate is open: a file beside the ledger."""
    note(f"begin {name}{n} pid {os.getpid()}")
    while not os.path.exists(os.environ["SHOP_LEDGER"] + ".gate"):
        time.sleep(0.01)
    return n


@app.task()
def gated(n: int) -> int:
    return _until_told("gated", n)


@app.task(at_most_once=True)
def gated_once(n: int) -> int:
    return _until_told("once", n)


@app.task()
def seen(n: int) -> int:
    note(f"seen {n}")
    return n


@app.task()
def total(values: list[int]) -> int:
    return sum(values)

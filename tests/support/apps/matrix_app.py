"""The app of the scenario matrix: jobs that work, and jobs that misbehave in every known way.

What really ran is in $LEDGER, outside of daemon and storage: a line `begin|end KEY ATTEMPT`, or
`child KEY PID`, written whole by one `write`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from taskqd import App, current_job

app = App("matrix")
time.sleep(float(os.environ.get("SLOW_IMPORT_S", "0")))
STEP_S = 0.02
leak: list[bytearray] = []


def note(*words: Any) -> None:
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


def begin(key: str) -> int:
    attempt = current_job().attempt
    note("begin", key, attempt)
    return attempt


def end(key: str) -> str:
    note("end", key, current_job().attempt)
    return key


@app.task(name="work", max_crashes=20)
def work(key: str, seconds: float = 0.0) -> str:
    begin(key)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(STEP_S)
    return end(key)


@app.task(name="awork", max_crashes=20)
async def awork(key: str, seconds: float = 0.0) -> str:
    begin(key)
    await asyncio.sleep(seconds)
    return end(key)


@app.task(name="hold")
def hold(key: str) -> str:
    """Run for ever at the first attempt."""
    if begin(key) == 1:
        time.sleep(600)
    return end(key)


@app.task(name="ahold")
async def ahold(key: str) -> str:
    if begin(key) == 1:
        await asyncio.sleep(600)
    return end(key)


@app.task(name="culprit", timeout=1.0, max_crashes=1)
def culprit(key: str, how: str) -> None:
    begin(key)
    WAYS[how]()
    end(key)


@app.task(name="aculprit", timeout=1.0, max_crashes=1)
async def aculprit(key: str, how: str) -> None:
    begin(key)
    WAYS[how]()
    end(key)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _starve() -> None:
    leak.append(bytearray(64 * 1024 * 1024))
    _die()


def _leak() -> None:
    leak.append(bytearray(b"x" * 24 * 1024 * 1024))


def _spin() -> None:
    while True:
        pass


def _spin_in_c() -> None:
    """Keep the interpreter lock in one call of C code."""
    sum(range(10**15))


def _spin_deaf() -> None:
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(int(signal.SIGTERM), 1)  # SIG_IGN
    _spin()


def _fork() -> None:
    if (child := os.fork()) == 0:
        time.sleep(600)
        os._exit(0)
    note("child", "fork", child)


WAYS: dict[str, Callable[[], object]] = {
    "kill": _die,
    "starve": _starve,
    "leak": _leak,
    "spin": _spin,
    "spin in C": _spin_in_c,
    "spin deaf": _spin_deaf,
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "fork": _fork,
}

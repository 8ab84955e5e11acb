"""Tasks that treat their worker badly.  A module of the app in `shop.py`."""

from __future__ import annotations

import asyncio
import os
import sys

from tests.support.apps.shop import app

if os.environ.get("RUDE_IMPORT"):
    raise FileNotFoundError(os.fsdecode(b"caf\xe9"))


@app.task(name="rude.fork", timeout=30)
def fork(how: str) -> int:
    """Return the exit code of a forked child that comes back into the worker's code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "raises":
        raise LookupError("in the child")
    if how == "exits":
        sys.exit(7)
    return 0


@app.task(name="rude.close_files", max_crashes=2)
def close_files() -> None:
    os.closerange(3, 4096)


@app.task(name="rude.stop_loop", max_crashes=2)
async def stop_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(60)


@app.task(name="rude.leave")
async def leave() -> None:
    sys.exit(3)


@app.task(name="rude.complain")
def complain() -> None:
    """Name a file as `os.listdir` does whose name is not UTF-8."""
    raise FileNotFoundError(os.fsdecode(b"caf\xe9"))

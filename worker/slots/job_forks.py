"""Processes that jobs fork from their worker: none of them goes on as the worker."""

from __future__ import annotations

import os
import sys
import traceback

from taskqd.worker.host import syscalls

from .slot import Slot


def end_with_their_jobs() -> None:
    """Have each process that is forked from this one end where the task's own code does.

    It shares the board with its worker: if it went on, it would clear the place of the job that
    still runs there, and with it the job's timeout.
    """
    os.register_at_fork(after_in_child=_mark)


def _mark() -> None:
    Slot.end_fork = staticmethod(_end)


def _end() -> None:
    """End as a program does that returns, raises SystemExit, or raises anything else."""
    error = sys.exception()
    if error is None:
        syscalls.leave(0)
    elif not isinstance(error, SystemExit):
        traceback.print_exception(error)
        syscalls.leave(1)
    elif error.code is None or isinstance(error.code, int):
        syscalls.leave((error.code or 0) & 0xFF)
    else:
        sys.stderr.write(f"{error.code}\n")
        syscalls.leave(1)

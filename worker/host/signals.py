"""Signals to a worker's process: bytes on a pipe that its loop reads, and stacks on request."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from signal import set_wakeup_fd
from signal import signal as set_handler

TERM = int(signal.SIGTERM)
STACKS = int(signal.SIGUSR2)
_CAUGHT_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_FIXED = {signal.SIGKILL, signal.SIGSTOP}

_stacks_fd = 2


def _ignore(_number: int, _frame: object) -> None:
    """A handler that does nothing: unlike SIG_IGN it is not inherited by programs that tasks run."""


def reset_signals() -> None:
    """Undo every disposition and mask that was inherited or set by user code; ignore INT."""
    for number in signal.valid_signals() - _CAUGHT_BY_PYTHON - _FIXED:
        with contextlib.suppress(OSError, ValueError):
            set_handler(number, signal.SIG_DFL)
    set_handler(signal.SIGINT, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def catch_term() -> int:
    """Turn SIGTERM, and the request for stacks, into bytes on a pipe; return its reading end.

    The kernel's handler writes to the pipe even while C code holds the interpreter lock.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    set_wakeup_fd(writer, warn_on_full_buffer=False)
    set_handler(signal.SIGTERM, _ignore)
    set_handler(STACKS, _ignore)
    return reader


def signals_caught(reader: int) -> set[int]:
    """Empty the pipe of `catch_term`; return the numbers of the signals that came.

    Stacks that were asked for are written.
    """
    try:
        numbers = set(os.read(reader, 4096))
    except BlockingIOError:
        return set()
    if STACKS in numbers:
        faulthandler.dump_traceback(_stacks_fd, all_threads=True)
    return numbers


def dump_stacks_on_request(fd: int) -> None:
    """SIGUSR2, SIGUSR1 and any fatal signal write the stacks of all threads to `fd`.

    law: SIGUSR2 first.  It is answered by `signals_caught`, under the interpreter lock.  SIGUSR1
    works even while C code holds that lock, but reads frames of threads that run, which can crash:
    it is for a process that does not answer
    (test_asking_healthy_workers_for_their_stacks_crashed_them).
    """
    global _stacks_fd
    _stacks_fd = fd
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)

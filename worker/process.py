"""The only place of this wing that forks, reaps, and talks to the kernel about processes."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from os import close, fork, waitpid
from select import select
from signal import set_wakeup_fd
from signal import signal as set_handler

from taskqd.errors import TaskqdError

from . import native

_PR_SET_PDEATHSIG = 1
MIDDLE_WAIT_S = 5.0
LAUNCH_WAIT_S = 10.0
"""A new interpreter has to start before it can say its pid."""
ADOPTION_WAIT_S = 5.0
_FLUSH_WAIT_S = 0.3
EXIT_ORPHANED = 71
"""A newborn's master died before the newborn was its child."""
EXIT_UNSETTLED = 75
"""A worker ended without having told the storage of all its jobs: they have to be taken back."""
EXIT_VITAL = 1
EXIT_BOOT = 70
TERM = int(signal.SIGTERM)
STACKS = int(signal.SIGUSR2)

_stacks_fd = 2
_libc = ctypes.CDLL(None, use_errno=True)


class ForkError(TaskqdError):
    """A child could not be forked."""


def double_fork() -> int:
    """Fork a grandchild for the nearest subreaper to adopt; return its pid, 0 in the grandchild.

    Raises ForkError where the kernel refuses or the process in the middle hangs (user code's
    at-fork handlers run in it); it is killed then, and reaped in any case.
    """
    reader, writer = _pipe()
    try:
        middle = fork()
    except OSError as error:
        close(reader)
        close(writer)
        raise ForkError(f"fork: {error}") from error
    if middle == 0:
        close(reader)
        _fork_and_leave(writer)
        close(writer)
        return 0
    close(writer)
    return _adopted(reader, middle, MIDDLE_WAIT_S)


def launch_adopted(launch: Callable[[int], int]) -> int:
    """Start a program as `double_fork` does a copy of this one; returns its pid.

    `launch` starts it, given the descriptor for `leave_parent`, and returns the pid in the middle.
    Raises ForkError.
    """
    reader, writer = _pipe()
    try:
        middle = launch(writer)
    except OSError as error:
        close(reader)
        raise ForkError(f"exec: {error}") from error
    finally:
        close(writer)
    return _adopted(reader, middle, LAUNCH_WAIT_S)


def leave_parent(writer: int) -> None:
    """In a program started by `launch_adopted`: go on in a child of a parent that ends."""
    _fork_and_leave(writer)
    close(writer)


def trial_fork() -> None:
    """Fork a child that ends at once: libraries that end their threads before a fork do it now."""
    with contextlib.suppress(OSError):
        child = fork()
        if child == 0:
            os._exit(0)
        _reap(child)


def _pipe() -> tuple[int, int]:
    try:
        return os.pipe()
    except OSError as error:
        raise ForkError(f"pipe: {error}") from error


def _adopted(reader: int, middle: int, wait_s: float) -> int:
    try:
        return _read_pid(reader, wait_s)
    finally:
        close(reader)
        _reap(middle)


def _fork_and_leave(writer: int) -> None:
    """Return in the grandchild only."""
    status = 1
    try:
        child = fork()
        if child == 0:
            return
        os.write(writer, str(child).encode())
        status = 0
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(writer, f"fork: {error}".encode())
    # law: the middle process leaves here whatever happened, or two zygotes would go on.
    os._exit(status)


def _read_pid(reader: int, wait_s: float) -> int:
    ready, _, _ = select([reader], [], [], wait_s)
    text = os.read(reader, 200).decode(errors="replace") if ready else ""
    if text.isdigit():
        return int(text)
    raise ForkError(text or f"the forked process said nothing within {wait_s:g} s")


def _reap(pid: int) -> None:
    """Wait for the process in the middle; kill it when it does not leave by itself."""
    deadline = time.monotonic() + MIDDLE_WAIT_S
    while True:
        with contextlib.suppress(ChildProcessError, InterruptedError):
            if waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    waitpid(pid, 0)
                    return
                native.sleep(0.0005)
                continue
        return


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel for `signal_number` when the parent of this process dies."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")


def become_child_of(master_pid: int) -> None:
    """Wait until the master has adopted this process, then tie its life to the master's.

    law: prctl comes after the adoption (before, the parent is the process in the middle, whose
    exit would send the signal) and is followed by another look (the master may have died between).
    """
    deadline = time.monotonic() + ADOPTION_WAIT_S
    while os.getppid() != master_pid:
        if time.monotonic() > deadline:
            os._exit(EXIT_ORPHANED)
        native.sleep(0.0005)
    die_with_parent(signal.SIGTERM)
    if os.getppid() != master_pid:
        os._exit(EXIT_ORPHANED)


def die_with(master_pid: int, signal_number: int) -> None:
    """Tie a direct child's life to the master's; for the zygote, before it imports user code."""
    die_with_parent(signal_number)
    if os.getppid() != master_pid:
        os._exit(EXIT_ORPHANED)


def own_session() -> None:
    """Leave the terminal's process group, so that its Ctrl-C reaches the master alone."""
    with contextlib.suppress(PermissionError):  # already the leader of a group of its own
        os.setsid()


_CAUGHT_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_FIXED = {signal.SIGKILL, signal.SIGSTOP}


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
    it is for a process that does not answer.
    """
    global _stacks_fd
    _stacks_fd = fd
    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=fd, all_threads=True)


def exists(pid: int) -> bool:
    """Return whether there is a process `pid`, be it one that this one may not look at."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def leave(code: int) -> None:
    """End the process now: no exit handlers, no waiting for threads that run user code.

    What users have printed is flushed, unless a thread that holds the stream is stuck.
    """
    flusher = native.Thread(_flush)
    with contextlib.suppress(RuntimeError):  # no thread can be started any more
        flusher.start()
        flusher.join(_FLUSH_WAIT_S)
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def report_and_leave(code: int) -> None:
    """Print the exception that is being handled and end the process, whatever other threads do."""
    sys.excepthook(*sys.exc_info())
    leave(code)


def vital(run: Callable[[], object]) -> None:
    """Run a thread without which the process is of no use: it ends with the thread's failure.

    The master then takes back what the process held.
    """
    try:
        run()
    except BaseException:
        report_and_leave(EXIT_VITAL)


def ending(main: Callable[[], int]) -> None:
    """Run the main of a forked child and end the process with its code, whatever it raises."""
    code = 1
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        report_and_leave(code)
    leave(code)

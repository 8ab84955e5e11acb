"""The only place of this wing that forks, reaps, and talks to the kernel about processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from os import close, fork, waitpid
from select import select

from taskqd.errors import TaskqdError

from . import native_threads

_PR_SET_PDEATHSIG = 1
MIDDLE_WAIT_S = 5.0
LAUNCH_WAIT_S = 10.0
"""A new interpreter has to start before it can say its pid."""
ADOPTION_WAIT_S = 5.0
_FLUSH_WAIT_S = 0.3
EXIT_ORPHANED = 71
"""A new child's master died before the child was its own."""
EXIT_UNSETTLED = 75
"""A worker ended without having told the storage of all its jobs: they have to be recovered."""
EXIT_VITAL = 1
EXIT_BOOT = 70

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
    # law: the middle process leaves here whatever happened, or two zygotes would go on
    # (test_a_fork_that_the_kernel_refuses_is_an_error_and_no_second_zygote).
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
                native_threads.sleep(0.0005)
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
    exit would send the signal) and is followed by another look (the master may have died between)
    (test_children_live_on_when_the_zygote_is_killed).
    """
    deadline = time.monotonic() + ADOPTION_WAIT_S
    while os.getppid() != master_pid:
        if time.monotonic() > deadline:
            os._exit(EXIT_ORPHANED)
        native_threads.sleep(0.0005)
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
    flusher = native_threads.Thread(_flush)
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

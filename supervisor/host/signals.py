"""Signals to the master: a handler only wakes the loop, which then asks which signals came.

`install` is the first act of the process, because PID 1 ignores a signal without a handler, and
any other process dies of it.  Whatever was blocked or ignored by who started us is reset.
"""

from __future__ import annotations

import os
import signal

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Signals:
    """The signals that have come.  `fileno` is readable when there are any."""

    def __init__(self) -> None:
        self._fd, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, _only_wake)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def fileno(self) -> int:
        return self._fd

    def take(self) -> list[str]:
        """Return the names of the signals that came, in order; doubled ones are kept."""
        try:
            numbers = os.read(self._fd, 4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number).name for number in numbers]


def _only_wake(_number: int, _frame: object) -> None:
    """The C handler has written the number to the wake-up descriptor already."""


_installed: Signals | None = None


def install() -> Signals:
    """Install the handlers, once; main thread only."""
    global _installed
    if _installed is None:
        _installed = Signals()
    return _installed


def ignore() -> None:
    """Let no signal spoil the exit code: the interpreter, as it ends, gives handlers back to the
    system, but leaves alone what is ignored.
    """
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)

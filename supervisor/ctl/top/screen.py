"""The terminal of `taskqctl top`: the alternate screen, keys without Enter, changes of size.

law: whatever ends the command, the terminal is given back as it was
(test_live_it_refreshes_follows_the_size_and_q_gives_the_terminal_back).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        self._waker = waker
        self._signals = {
            # Their number in the pipe is all that is wanted: SIGWINCH of a resize, and an end.
            number: signal.signal(number, lambda _number, _frame: None)
            for number in (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP)
        }
        self._wakeup = signal.set_wakeup_fd(waker)
        tty.setcbreak(self._fd)
        self._write(_ENTER)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with suppress(OSError, ValueError, termios.error):
            self._write(_LEAVE)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._waker)

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def draw(self, lines: Sequence[str]) -> None:
        # The last line ends without a newline, or the screen would scroll.
        text = "\r\n".join(f"{line}{_REST_OF_LINE}" for line in lines)
        self._write(f"{_HOME}{text}{_REST}")

    def wait(self, timeout_s: float) -> str:
        """Return "quit", "resized", "key" or "" (the time is over)."""
        ready, _, _ = select.select([self._fd, self._woken], [], [], max(0.0, timeout_s))
        if self._woken in ready:
            caught = set(os.read(self._woken, 64))
            return "resized" if caught <= {signal.SIGWINCH} else "quit"
        if self._fd in ready:
            keys = os.read(self._fd, 64)
            # End of file: the terminal is gone.
            return "quit" if not keys or keys[0:1] in (b"q", b"Q", b"\x03", b"\x04") else "key"
        return ""

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

"""A signal of this process to its own main thread: a handler that may raise where that stands."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

POKE = signal.SIGRTMIN + 6
"""Of no use to anybody else: tasks may have SIGALRM to themselves."""


def on_poke(deliver: Callable[[int, FrameType | None], None]) -> bool:
    """Have `poke_main_thread` call `deliver`; False: this is not the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(POKE, deliver)
    return True


def poke_main_thread() -> None:
    """Have the main thread call its handler between two bytecodes, out of a system call too."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, POKE)

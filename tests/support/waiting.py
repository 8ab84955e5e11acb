"""Waiting for what must come true, with a deadline that only a hang passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
HANG_S = 60.0
"""Longer than anything takes that a test waits for, also on a machine that others load."""
LOOK_S = 0.005


def wait_until(
    look: Callable[[], T], what: str = "", *, timeout_s: float = HANG_S, failing: bool = True
) -> T:
    """Return the first true answer of `look`; at the deadline fail, or return the last answer."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline_s:
            assert not failing, f"not within {timeout_s:g} s: {what or look}"
            return found
        time.sleep(LOOK_S)
    return found

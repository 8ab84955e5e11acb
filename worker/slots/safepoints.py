"""Whether an exception may be raised where a thread stands now: only in a user's own code.

law: never in our own (a settlement, `once`, `checkpoint`, a lock that is being taken), whatever
called it; never while a module is imported or a line is logged, which would leave a lock or half a
module behind; never in a finaliser, which would swallow it
(test_nothing_is_raised_while_a_module_is_imported_or_a_line_is_logged).
"""

from __future__ import annotations

import os
from types import CodeType, FrameType

from taskqd.client.task import Task
from taskqd.execution.runner import ENTRANCES
from taskqd.execution.task_lock import TaskLock
from taskqd.jobs.exception_text import OUR_FOLDER

_LET_THROUGH = frozenset(
    code
    for ours in (Task.call_local.__code__, TaskLock.__call__.__code__)
    for code in (ours, *ours.co_consts)
    if isinstance(code, CodeType)
)
"""Ours, with nothing to break between the user's code around it and within it."""
_LOGGING = f"{os.sep}logging{os.sep}__init__.py"


def in_users_code(frame: FrameType | None) -> bool:
    """Return whether everything from `frame` up to the call of the job's function is the user's."""
    inside = False
    while frame is not None:
        code = frame.f_code
        if code in ENTRANCES:
            return inside
        if code not in _LET_THROUGH:
            if _is_delicate(code):
                return False
            inside = True
        frame = frame.f_back
    return False


def users_part(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """Return what a thread runs of a job, outermost first, with line numbers; [] if it runs none.

    What is ours between the call of the job's function and its own code is left out.
    """
    inner: list[tuple[FrameType, int]] = []
    while frame is not None:
        if frame.f_code in ENTRANCES:
            while inner and inner[-1][0].f_code.co_filename.startswith(OUR_FOLDER):
                inner.pop()
            return inner[::-1]
        inner.append((frame, frame.f_lineno))
        frame = frame.f_back
    return []


def _is_delicate(code: CodeType) -> bool:
    name = code.co_filename
    return (
        name.startswith((OUR_FOLDER, "<frozen importlib"))
        or name.endswith(_LOGGING)
        or code.co_name == "__del__"
    )

"""Exceptions as text, whatever they are.  Pure."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

_TEXT_CHARS_MAX = 16_000
OUR_FOLDER = f"{sys.modules[__name__.partition('.')[0]].__path__[0]}/"
"""The folder of the package: frames of code below it are ours, all others are the user's."""


def describe(error: BaseException) -> str:
    """Return type and message of an exception whose own `__str__` may be broken."""
    message = message_of(error)
    return f"{type_name_of(error)}: {message}" if message else type_name_of(error)


def message_of(error: BaseException) -> str:
    try:
        return writable(str(error)[:_TEXT_CHARS_MAX])
    except Exception as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


def type_name_of(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def trace_of(error: BaseException) -> str:
    try:
        text = writable("".join(traceback.format_exception(type(error), error, _users_part(error))))
    except Exception as broken:
        text = f"<its traceback cannot be formatted: {type(broken).__name__}>"
    if len(text) <= _TEXT_CHARS_MAX:
        return text
    return text[: _TEXT_CHARS_MAX // 2] + "\n[...]\n" + text[-_TEXT_CHARS_MAX // 2 :]


def writable(text: str) -> str:
    """Return `text` without lone surrogates, as names of files have them, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _users_part(error: BaseException) -> TracebackType | None:
    """Return the traceback from the user's first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OUR_FOLDER):
        trace = trace.tb_next
    return trace or error.__traceback__

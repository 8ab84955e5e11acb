"""Which of the files that were imported are the user's own: those whose change is worth a reload."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from types import TracebackType

from taskqd.ipc.messages import Files

CHUNK = 300
"""Paths in one message, so that it fits into a packet."""
_INSTALLED = tuple(
    {os.path.realpath(path) + os.sep for path in sysconfig.get_paths().values() if path}
    - {os.path.realpath(sys.prefix) + os.sep, os.path.realpath(sys.base_prefix) + os.sep}
)


def reports(error: BaseException | None = None) -> Iterator[Files]:
    """Yield messages that name the files imported so far, and those that `error` came from."""
    found = {file for module in list(sys.modules.values()) if (file := _file_of(module))}
    paths = sorted(_own({*found, *_of_error(error)}))
    for start in range(0, len(paths), CHUNK):
        yield Files(tuple(paths[start : start + CHUNK]))


def _file_of(module: object) -> str:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else ""


def _own(files: Iterable[str]) -> set[str]:
    paths = {os.path.realpath(file) for file in files}
    return {path for path in paths if os.path.isfile(path) and not path.startswith(_INSTALLED)}


def _of_error(error: BaseException | None) -> Iterator[str]:
    if isinstance(error, SyntaxError) and error.filename:
        yield error.filename
    trace: TracebackType | None = error.__traceback__ if error is not None else None
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next

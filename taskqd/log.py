"""Set-up of the logs: structlog, one line an event, each line one write.

law: no lock and no buffer.  structlog's own loggers and the standard library's hold a lock that a
forked child can inherit locked; one `os.write` of a whole line cannot deadlock, and the kernel
keeps lines of up to PIPE_BUF whole between processes.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

import msgspec

from taskqd.events import CATALOGUE


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


# structlog imports what only its users may need, and what would cost every process memory: asyncio
# with ssl (6 MB) for its `await log.ainfo()`, rich (5 MB) for tracebacks on a console, which are
# plain here, and greenlet (1 MB) for its threadlocal module, which does with `threading.local`
# otherwise (gevent patches that one).  While structlog is imported, the latter two are hidden and
# asyncio stands for itself; after that all are as if nothing had been, and structlog's own use of
# asyncio imports it.
_stand_ins: dict[str, ModuleType | None] = {
    "asyncio": _Later("asyncio"),
    "greenlet": None,
    "rich": None,
}
_added = {name for name in _stand_ins if name not in sys.modules}
sys.modules.update({name: _stand_ins[name] for name in _added})  # type: ignore[misc]

import structlog  # noqa: E402
from structlog.typing import EventDict  # noqa: E402

for _name in _added:
    if sys.modules.get(_name) is _stand_ins[_name]:
        sys.modules.pop(_name, None)

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Source: man 3 sd-daemon."""
_TEXT_CHARS_MAX = 16_000


class FdLogger:
    """Writes each line whole to a file descriptor; what cannot be written is counted, not raised."""

    def __init__(self, fd: int, path: str | None = None) -> None:
        self.fd = fd
        self._path = path
        self.dropped = 0

    def reopen(self) -> None:
        """Open the file again, which was renamed; lines that threads write meanwhile go to either.

        Where it cannot be opened, the old one stays.  Lines to a bare descriptor have no file.
        """
        if self._path is None:
            return
        try:
            fresh = _open(self._path)
        except OSError:
            self.dropped += 1
            return
        os.dup2(fresh, self.fd, inheritable=False)
        os.close(fresh)

    def msg(self, line: str) -> None:
        data = (line + "\n").encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError:
            # A closed pipe or a full disk must not stop the work that the line tells of.
            self.dropped += 1

    debug = info = warning = error = critical = msg


class Log:
    """Emits events of the catalogue.  `bind` returns a log that adds facts to each line."""

    def __init__(self, logger: Any, threshold: int, sink: FdLogger) -> None:
        self._logger = logger
        self._threshold = threshold
        self._sink = sink

    def enabled(self, event: str) -> bool:
        """Return whether the event would be written: ask before gathering costly facts."""
        return _LEVELS[CATALOGUE[event].level] >= self._threshold

    def emit(self, event: str, **facts: Any) -> None:
        level = CATALOGUE[event].level
        if _LEVELS[level] >= self._threshold:
            getattr(self._logger, level)(event, **facts)

    def bind(self, **facts: Any) -> Log:
        return Log(self._logger.bind(**facts), self._threshold, self._sink)

    def reopen(self) -> None:
        """Go on in a new file of the old name, after a rotation."""
        self._sink.reopen()


def configure(
    *,
    role: str,
    level: str = "info",
    format: str = "auto",
    file: str | None = None,
    fd: int | None = None,
    **facts: Any,
) -> Log:
    """Return this process's log.

    `format` "auto" is console on a terminal, else JSON.  `file` is opened for appending (mode
    0640); without it, lines go to `fd`, by default standard error.  The journal of systemd is told
    each line's priority.
    """
    target = _open(file) if file else (2 if fd is None else fd)
    if format == "auto":
        format = "console" if os.isatty(target) else "json"
    sink = FdLogger(target, file)
    render = _console() if format == "console" else _render_json
    logger = structlog.wrap_logger(
        sink,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _clip,
            _with_priority(render) if _is_journal(target) else render,
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    ).bind(role=role, pid=os.getpid(), **facts)
    return Log(logger, _LEVELS[level], sink)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _console() -> Any:
    return structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _is_journal(fd: int) -> bool:
    """Return whether systemd has connected `fd` to its journal (man 5 systemd.exec)."""
    info = os.fstat(fd)
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"


def _with_priority(render: Any) -> Any:
    """Return a renderer that marks each line as the journal expects it, which takes the mark off."""

    def mark(logger: Any, method: str, facts: EventDict) -> str:
        priority = _PRIORITIES[method]
        text: str = render(logger, method, facts)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    return mark


def _clip(_logger: Any, _method: str, facts: EventDict) -> EventDict:
    for key, value in facts.items():
        if isinstance(value, str) and len(value) > _TEXT_CHARS_MAX:
            facts[key] = value[:_TEXT_CHARS_MAX] + "…"
    return facts


def _render_json(_logger: Any, _method: str, facts: EventDict) -> str:
    head = {key: facts.pop(key) for key in ("timestamp", "level", "event") if key in facts}
    return _encode({**head, **facts}).decode()


_encode = msgspec.json.Encoder(enc_hook=repr).encode

"""Set-up of the logs: structlog, one line an event, written by a sink of our own.

law: no lock that anybody waits for.  structlog's own loggers and the standard library's hold one
that a forked child can inherit locked (test_a_forked_child_writes_its_own_lines_only).
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from taskqd.logs.events import CATALOGUE, LOG_DROPPED
from taskqd.logs.sink import Sink, open_file


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def __bool__(self) -> bool:
        """Return False: from Python 3.12 on, a log record asks a true `asyncio` for its task."""
        return False


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


class _Line:
    """What structlog takes for a logger: hands each line to the sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, line: str) -> None:
        self._sink.add((line + "\n").encode(errors="backslashreplace"))
        self._sink.flush()

    debug = info = warning = error = critical = msg


class Form(NamedTuple):
    json: bool
    """Else for people at a terminal."""
    journal: bool
    """Lines are marked with their priority."""


class Log:
    """Emits events of the catalogue.  `bind` returns a log that adds facts to each line."""

    def __init__(self, logger: Any, threshold: int, sink: Sink, form: Form) -> None:
        self._logger = logger
        self._threshold = threshold
        self._sink = sink
        self._form = form
        self._heads: dict[str, tuple[bytes, bytes]] = {}
        self.holds = False
        """Somebody calls `flush` before it matters whether a line of `emit_soon` is out."""

    def enabled(self, event: str) -> bool:
        """Return whether the event would be written: ask before gathering costly facts."""
        return _LEVELS[CATALOGUE[event].level] >= self._threshold

    def emit(self, event: str, **facts: Any) -> None:
        level = CATALOGUE[event].level
        if _LEVELS[level] >= self._threshold:
            getattr(self._logger, level)(event, **facts)

    def emit_soon(self, event: str, facts: dict[str, Any]) -> None:
        """Like `emit`, for events that come with every job: the same line at a tenth of the cost.

        A log that `holds` writes it at the next `flush` or `emit`.
        """
        if not self._form.json:
            self.emit(event, **facts)
            return
        if not self.enabled(event):
            return
        head, tail = self._heads.get(event) or self._head(event)
        data = _encode(facts)
        if len(data) > _TEXT_CHARS_MAX:
            data = _encode(_clip(None, "", facts))
        full = self._sink.add(b"%b%b%b%b\n" % (head, stamp(time.time()), tail, data[1:]))
        if full or not self.holds:
            self._sink.flush()

    def flush(self) -> None:
        self._sink.flush()

    def _head(self, event: str) -> tuple[bytes, bytes]:
        """Return what is the same in each line of this event: before its timestamp, and after."""
        fixed = {"level": CATALOGUE[event].level, "event": event}
        tail = _encode({**fixed, **structlog.get_context(self._logger)})
        mark = _mark(CATALOGUE[event].level).encode() if self._form.journal else b""
        self._heads[event] = (mark + b'{"timestamp":"', b'",' + tail[1:-1] + b",")
        return self._heads[event]

    def bind(self, **facts: Any) -> Log:
        log = Log(self._logger.bind(**facts), self._threshold, self._sink, self._form)
        log.holds = self.holds
        return log

    def reopen(self) -> str:
        """Go on in a new file of the old name, after a rotation; return why it could not be."""
        return self._sink.reopen()


_second: tuple[int, bytes] = (0, b"")


def stamp(time_s: float) -> bytes:
    """Return the time as structlog's TimeStamper writes it: ISO 8601, UTC, microseconds."""
    global _second
    second = int(time_s)
    if _second[0] != second:
        _second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
    return b"%b.%06dZ" % (_second[1], int((time_s - second) * 1e6))


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
    target = open_file(file) if file else (2 if fd is None else fd)
    if format == "auto":
        format = "console" if os.isatty(target) else "json"
    sink = Sink(target, file)
    form = Form(json=format != "console", journal=_is_journal(target))
    render = _render_json if form.json else _console()
    logger = structlog.wrap_logger(
        _Line(sink),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _clip,
            _with_priority(render) if form.journal else render,
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    ).bind(role=role, pid=os.getpid(), **facts)
    log = Log(logger, _LEVELS[level], sink, form)
    sink.on_dropped = lambda count: log.emit(LOG_DROPPED, lines=count)
    return log


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
        text: str = render(logger, method, facts)
        return "\n".join(_mark(method) + line for line in text.split("\n"))

    return mark


def _mark(level: str) -> str:
    return f"<{_PRIORITIES[level]}>"


def _clip(_logger: Any, _method: str, facts: EventDict) -> EventDict:
    for key, value in facts.items():
        if isinstance(value, str) and len(value) > _TEXT_CHARS_MAX:
            facts[key] = value[:_TEXT_CHARS_MAX] + "…"
    return facts


def _render_json(_logger: Any, _method: str, facts: EventDict) -> str:
    head = {key: facts.pop(key) for key in ("timestamp", "level", "event") if key in facts}
    return _encode({**head, **facts}).decode()


_encode = msgspec.json.Encoder(enc_hook=repr).encode

"""The options of a task, checked where they are given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

import msgspec

from taskqd.errors import ConfigError
from taskqd.jobs.job import NAME_PATTERN, PRIORITY_MAX

OnLocked = Literal["skip", "requeue", "fail"]
Ack = Literal["batch", "each"]
Exceptions = type[BaseException] | tuple[type[BaseException], ...]
DAY_S = 86400
SECONDS_MAX = 10_000_000_000
"""Three hundred years: no number of an option is larger, so none overflows a storage's clock."""


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `@app.task` accepts; durations are seconds.  See docs/tasks.md."""

    name: str | None = None
    queue: str = "default"
    priority: int = 0
    retries: int = 0
    retry_delay: float = 0
    retry_backoff: float = 1.0
    retry_max_delay: float = 3600
    retry_jitter: bool = True
    retry_on: Any = Exception
    timeout: float | None = None
    soft_timeout: float | None = None
    expires: float | None = None
    lock: str | None = None
    on_locked: OnLocked = "skip"
    unique: str | None = None
    max_running: int | None = None
    rate_limit: str | None = None
    max_interruptions: int | None = None
    max_crashes: int = 3
    at_most_once: bool = False
    ack: Ack = "batch"
    store_result: bool = True
    result_ttl: int | None = None
    context: bool = False


class TaskKwargs(TypedDict, total=False):
    """`TaskOptions` as keyword arguments, for type checkers."""

    name: str | None
    queue: str
    priority: int
    retries: int
    retry_delay: float
    retry_backoff: float
    retry_max_delay: float
    retry_jitter: bool
    retry_on: Exceptions
    timeout: float | None
    soft_timeout: float | None
    expires: float | None
    lock: str | None
    on_locked: OnLocked
    unique: str | None
    max_running: int | None
    rate_limit: str | None
    max_interruptions: int | None
    max_crashes: int
    at_most_once: bool
    ack: Ack
    store_result: bool
    result_ttl: int | None
    context: bool


TASK_OPTION_NAMES = tuple(TaskOptions.__struct_fields__)

CARRIED = frozenset(
    {
        "retries",
        "retry_delay",
        "retry_backoff",
        "retry_max_delay",
        "retry_jitter",
        "timeout",
        "soft_timeout",
        "max_interruptions",
        "max_crashes",
        "at_most_once",
        "store_result",
        "result_ttl",
    }
)
"""Options of one call that travel in the envelope and override the task's own."""

CALL_OPTION_NAMES = tuple(
    sorted(CARRIED | {"delay", "eta", "queue", "priority", "expires", "id", "headers"})
)

_AT_LEAST_ZERO = ("retries", "retry_delay", "retry_max_delay", "result_ttl", "max_interruptions")
_POSITIVE = ("timeout", "soft_timeout", "max_crashes", "max_running", "retry_backoff")


def task_options(given: dict[str, Any]) -> TaskOptions:
    """Build the options of a task.  Raises ConfigError that names the option and what it takes."""
    _reject_unknown(given, TASK_OPTION_NAMES, "task option")
    check_values(given)
    return TaskOptions(**given)


def check_call_options(given: dict[str, Any]) -> None:
    """Check the options of one call.  Raises ConfigError."""
    _reject_unknown(given, CALL_OPTION_NAMES, "option of a call")
    if given.get("delay") is not None and given.get("eta") is not None:
        raise ConfigError("delay and eta: give one of them, not both")
    check_values(given)


def _reject_unknown(given: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"unknown {what} {key!r}{hint}")


def check_values(given: dict[str, Any]) -> None:
    for key, value in given.items():
        if value is None:
            continue
        rule = _RULES.get(key)
        if rule is not None:
            problem = rule(value)
            if problem:
                raise ConfigError(f"{key} = {value!r}: expected {problem}")


def _number(low: float, exclusive: bool) -> Callable[[Any], str | None]:
    def rule(value: Any) -> str | None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and (value > low if exclusive else value >= low) and value <= SECONDS_MAX:
            return None
        return f"a number {'above' if exclusive else 'from'} {low:g}, at most {SECONDS_MAX:g}"

    return rule


def _one_of(*names: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in names else f"one of {', '.join(map(repr, names))}"


def _priority(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= PRIORITY_MAX:
        return None
    return f"a whole number from 0 to {PRIORITY_MAX}, higher first"


def _queue(value: Any) -> str | None:
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return None
    return "1 to 64 letters, digits, '_', '.' or '-'"


HEADERS_MAX = 64
HEADERS_BYTES_MAX = 8192


def _headers(value: Any) -> str | None:
    if isinstance(value, Mapping) and len(value) <= HEADERS_MAX:
        texts = [text for pair in value.items() for text in pair]
        if all(isinstance(text, str) for text in texts):
            size = sum(len(text.encode("utf-8", "replace")) for text in texts)
            if size <= HEADERS_BYTES_MAX:
                return None
    return f"at most {HEADERS_MAX} strings by name, {HEADERS_BYTES_MAX} bytes in all"


def _retry_on(value: Any) -> str | None:
    kinds = value if isinstance(value, tuple) else (value,)
    if kinds and all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return None
    return "an exception class or a tuple of them"


_RULES: dict[str, Callable[[Any], str | None]] = {
    **{name: _number(0, exclusive=False) for name in _AT_LEAST_ZERO},
    **{name: _number(0, exclusive=True) for name in _POSITIVE},
    "priority": _priority,
    "queue": _queue,
    "headers": _headers,
    "retry_on": _retry_on,
    "on_locked": _one_of("skip", "requeue", "fail"),
    "ack": _one_of("batch", "each"),
}

"""The kinds of value that a key can have, and how people write them.

A `Kind` turns what was written into what `Settings` holds.  A file gives TOML values; environment
and flags give text, which `from_text` first turns into the TOML value it stands for, so that each
kind checks in one place.  Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from taskqd.settings import MIB

from .suggest import did_you_mean

COUNT_MAX = 10**12
DURATION_S_MAX = 10 * 365 * 86400
SIZE_BYTES_MAX = 1 << 50
"""Every number has a bound: `Settings` travels as JSON, whose integers end at 64 bits."""


MASK = "***"


class Unfit(ValueError):
    """Raised for a value of the wrong kind; the message says what was expected."""


class Kind(NamedTuple):
    name: str
    """Description of the accepted values, for messages and docs/configuration.md."""
    parse: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str
    words: Mapping[str, Any] = {}
    """Word -> the value that it stands for."""


def text(name: str, pattern: str = r".+", remedy: str = "") -> Kind:
    """Text that matches `pattern` as a whole."""
    fits = re.compile(pattern).fullmatch

    def parse(value: object) -> str:
        if isinstance(value, str) and fits(value):
            return value
        raise Unfit(f"expected {name}{remedy}")

    return Kind(name, parse)


def choice(*words: str) -> Kind:
    name = one_of(words)

    def parse(value: object) -> str:
        if value in words:
            return str(value)
        near = did_you_mean(value, words) if isinstance(value, str) else ""
        raise Unfit(f"expected {name}{near}")

    return Kind(name, parse, str.strip)


def switch() -> Kind:
    name = "true or false"

    def parse(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise Unfit(f"expected {name}")

    return Kind(name, parse, _truth)


def whole(low: int, high: int = COUNT_MAX, **words: int | None) -> Kind:
    """A whole number from `low` to `high`, or one of `words`, which stand for another value."""
    name = _with_words(f"a whole number {_span(str(low), str(high), high != COUNT_MAX)}", words)

    return _amount(name, _whole, low, high, words)


def duration(low: float, high: float = DURATION_S_MAX, **words: float | None) -> Kind:
    """Seconds as a number, or text like "90s", "1h30m"; gives seconds."""
    name = _with_words(
        f"a duration {_span(duration_text(low), duration_text(high), high != DURATION_S_MAX)}"
        ' like 25, "25s" or "5m"',
        words,
    )

    return _amount(name, duration_s, low, high, words)


def whole_duration(low: int) -> Kind:
    """A duration as in `duration`, rounded to whole seconds."""
    kind = duration(low)
    return kind._replace(parse=lambda value: round(kind.parse(value)))


def size(low: int, high: int = SIZE_BYTES_MAX, **words: int | None) -> Kind:
    """Bytes as a number, or text like "512MiB", "1G"; gives bytes."""
    name = _with_words(
        f"a size {_span(size_text(low), size_text(high), high != SIZE_BYTES_MAX)}"
        ' like "512MiB" or "1G"',
        words,
    )

    return _amount(name, size_bytes, low, high, words, _forgotten_unit)


def _amount(
    name: str,
    read: Callable[[object], float | None],
    low: float,
    high: float,
    words: Mapping[str, float | None],
    hint: Callable[[Any, Any], str] = lambda value, low: "",
) -> Kind:
    """An amount that `read` turns into a number from `low` to `high`, or one of `words`."""

    def parse(value: object) -> float | None:
        if isinstance(value, str) and value in words:
            return words[value]
        number = read(value)
        if number is None or not _within(number, low, high):
            raise Unfit(f"expected {name}{hint(number, low)}")
        return number

    return Kind(name, parse, _number, words)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_BEYOND = 1e300
"""Bound on the numbers that are read, within the range of floats; no key has a greater value."""
_DURATION_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")


def duration_s(value: object) -> float | None:
    """Return the seconds that `value` stands for, None if it is no duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < _BEYOND else None
    if not isinstance(value, str):
        return None
    written = value.strip().lower()
    if not _DURATION.fullmatch(written):
        return None
    parts = _DURATION_PART.findall(written)
    return math.fsum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?b)?)", re.IGNORECASE)
_SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_bytes(value: object) -> int | None:
    """Return the bytes that `value` stands for, None if it is no size.

    "M" and "MiB" are 1024 * 1024, as in systemd; "MB" is 1000 * 1000.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    number, prefix, suffix = match[1], match[2].lower(), (match[3] or "").lower()
    step: int = 1000 if suffix == "b" and prefix else 1024
    count = float(number) * float(step) ** _SIZE_POWERS[prefix]
    return round(count) if math.isfinite(count) else None


def size_text(count: int) -> str:
    """Return bytes as people write them: 1048576 -> "1MiB"."""
    for unit in ("", "KiB", "MiB", "GiB"):
        if count % 1024 or count == 0:
            return f"{count}{unit}"
        count //= 1024
    return f"{count}TiB"


def duration_text(seconds: float) -> str:
    """Return seconds as people write them: 86400 -> "1d"."""
    units = reversed(_DURATION_UNITS_S.items())
    fitting = (f"{seconds / unit_s:g}{unit}" for unit, unit_s in units if seconds % unit_s == 0)
    return next(fitting, f"{seconds:g}s") if seconds else "0s"


def one_of(words: Iterable[str]) -> str:
    """Return `"a", "b" or "c"`."""
    *head, last = (f'"{word}"' for word in words)
    return f"{', '.join(head)} or {last}" if head else last


def _with_words(name: str, words: Iterable[str]) -> str:
    return ", or ".join((name, *(f'"{word}"' for word in words)))


def _span(low: str, high: str, is_bounded: bool) -> str:
    """Say the range; a bound that only keeps numbers sane is not worth telling."""
    return f"from {low} to {high}" if is_bounded else f"of at least {low}"


def _within(number: float, low: float, high: float) -> bool:
    return low <= number <= high


def _forgotten_unit(count: int | None, low: int) -> str:
    return f'; did you mean "{count}MiB"?' if count and low <= count * MIB and count < low else ""


def _number(written: str) -> object:
    """Return the number that `written` is, else the text itself, trimmed."""
    written = written.strip()
    for convert in (int, float):
        try:
            return convert(written)
        except ValueError:
            continue
    return written


_TRUTH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _truth(written: str) -> object:
    return _TRUTH.get(written.strip().lower(), written)

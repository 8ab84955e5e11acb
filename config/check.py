"""Checks given values, one by one and by the rules between several keys.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from taskqd.settings import LimitSettings
from taskqd.urls import has_secret, mask_url

from .given import Findings, Given
from .keys import KEYS, Key
from .values import MASK, Unfit

VALUE_CHARS_MAX = 80


class Chosen(NamedTuple):
    """The value of a key that wins over those of earlier layers, and where it was given."""

    value: Any
    where: str


def choose(given: Iterable[Given], findings: Findings) -> dict[str, Chosen]:
    """Check every value, also one that a later layer overrides, and keep the last of each key."""
    chosen: dict[str, Chosen] = {}
    for item in given:
        key = KEYS[item.key]
        try:
            value = key.kind.parse(_untext(key, item))
        except Unfit as error:
            findings.reject(item.where, item.key, f"{shown(key, item.value)}: {error}")
            continue
        chosen[item.key] = Chosen(value, item.where)
    return chosen


def shown(key: Key, value: Any) -> str:
    """Return a value as messages show it: short, and without its secrets."""
    if key.secret:
        text = MASK
    elif isinstance(value, str):
        text = f'"{mask_url(value) if key.credential else value}"'
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"


def cross_check(chosen: dict[str, Chosen], findings: Findings) -> None:
    """Report keys that contradict each other."""
    _check_concurrency(chosen, findings)
    _check_weights(chosen, findings)
    _check_modes(chosen, findings)
    _check_marks(chosen, findings)
    _check_argv(chosen, findings)


def _untext(key: Key, item: Given) -> Any:
    if isinstance(item.value, str) and not _is_unicode(item.value):
        raise Unfit("expected text in UTF-8")
    return key.kind.from_text(item.value) if item.is_text else item.value


def _is_unicode(text: str) -> bool:
    """Return whether the text came from valid UTF-8; the environment can hold any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_concurrency(chosen: dict[str, Chosen], findings: Findings) -> None:
    kind = chosen.get("workers.type", Chosen("process", "default"))
    slots = chosen.get("workers.concurrency")
    if slots and slots.value > 1 and kind.value == "process":
        text = (
            f"{slots.value}: a worker of type process ({kind.where}) runs one job at a time; "
            'raise workers.count, or set workers.type = "thread"'
        )
        findings.reject(slots.where, "workers.concurrency", text)


def _check_weights(chosen: dict[str, Chosen], findings: Findings) -> None:
    names = chosen.get("queues.names")
    weights = chosen.get("queues.weights")
    if not names or not weights:
        return
    if any(item.weight is not None for item in names.value):
        text = f"given twice: here and within queues.names ({names.where}); keep one of them"
        findings.reject(weights.where, "queues.weights", text)
    served = {item.name for item in names.value}
    for name in weights.value:
        if name not in served:
            text = f'queue "{name}" is not among queues.names ({names.where})'
            findings.reject(weights.where, "queues.weights", text)


def _check_modes(chosen: dict[str, Chosen], findings: Findings) -> None:
    burst, reload = chosen.get("burst"), chosen.get("reload")
    if burst and reload and burst.value and reload.value:
        text = f"contradicts burst ({burst.where}): it would never see a change"
        findings.reject(reload.where, "reload", text)


def _check_marks(chosen: dict[str, Chosen], findings: Findings) -> None:
    """Report marks of memory that do not ascend."""
    default = LimitSettings()
    found = []
    for name in ("memory_recycle_percent", "memory_hold_percent", "memory_stop_percent"):
        given = chosen.get(f"limits.{name}", Chosen(getattr(default, name), "default"))
        if given.value is not None:
            found.append((f"limits.{name}", given))
    for (low_key, low), (key, high) in pairwise(found):
        if low.value > high.value and high.where == "default":
            text = f"{low.value}: above {key} ({high.value}, default); the marks ascend"
            findings.reject(low.where, low_key, text)
        elif low.value > high.value:
            text = f"{high.value}: below {low_key} ({low.value}, {low.where}); the marks ascend"
            findings.reject(high.where, key, text)


def _check_argv(chosen: dict[str, Chosen], findings: Findings) -> None:
    url = chosen.get("storage.url")
    if url and url.where.startswith("--") and has_secret(url.value):
        text = "its password is in the list of processes for all to see; use TASKQD_STORAGE_FILE"
        findings.warn(url.where, text)

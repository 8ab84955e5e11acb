"""The kinds of values with a grammar of their own: URLs, queues, addresses, apps, time zones.  Pure
except for `time_zone`, which looks the name up in the system's zone files.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from taskqd.jobs.job import NAME_PATTERN
from taskqd.urls import SCHEMES, scheme_of

from .suggest import did_you_mean
from .values import Kind, Unfit, one_of

WEIGHT_MAX = 1000
_APP = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?::[^\W\d]\w*(?:\.[^\W\d]\w*)*)?")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s/]+):(\d{1,5})")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@$-]{0,63}")
_UMASK = re.compile(r"(?:0o?)?[0-7]{1,3}")
SECRET_BYTES_MIN = 16
SOCKET_BYTES_MAX = 107
"""Longest path of a socket; man 7 unix: sun_path holds 108 bytes with its closing zero."""


class QueueName(NamedTuple):
    name: str
    weight: int | None = None


def app_path(value: object) -> str:
    if isinstance(value, str) and _APP.fullmatch(value.strip()):
        return value.strip()
    raise Unfit('expected "module:attribute", like "shop.tasks:app"')


def storage_url(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit("expected a URL as text")
    scheme = scheme_of(value)
    if not scheme:
        raise Unfit('expected a URL, like "sqlite:///taskqd.db" or "redis://localhost:6379/0"')
    if scheme not in SCHEMES:
        raise Unfit(
            f'unknown URL scheme "{scheme}"; expected {one_of(SCHEMES)}{did_you_mean(scheme, SCHEMES)}'
        )
    if scheme == "memory":
        raise Unfit(
            "memory:// lives inside one process, a daemon has several; use sqlite:// or redis://"
        )
    return value.strip()


def instance_name(value: object) -> str:
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise Unfit("expected 1 to 64 letters, digits, dots, dashes or underscores")


def address(value: object) -> str | None:
    """HOST:PORT, with an IPv6 host in brackets, or "off"."""
    if value == "off" or value is False:
        return None
    match = _ADDRESS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Unfit('expected HOST:PORT, like "127.0.0.1:7430" or "[::1]:7430", or "off"')
    if not 1 <= int(match[2]) <= 65535:
        raise Unfit("expected a port from 1 to 65535")
    return match[0]


def account(value: object) -> str:
    """The name or number of a user or group."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if isinstance(value, str) and _ACCOUNT.fullmatch(value):
        return value
    raise Unfit("expected the name or number of a user or group")


def umask(value: object) -> int:
    if isinstance(value, str) and _UMASK.fullmatch(value):
        return int(value, 8)
    raise Unfit('expected octal digits as text, like "027"')


def socket_path(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Unfit("expected the path of a unix socket")
    if len(value.encode()) > SOCKET_BYTES_MAX:
        raise Unfit(
            f"expected a path of at most {SOCKET_BYTES_MAX} bytes (a limit of unix sockets)"
        )
    return value


def secrets(value: object) -> tuple[str, ...]:
    """A list of keys, or text with blanks or line ends between them (a file, a variable)."""
    given = value.split() if isinstance(value, str) else value
    if isinstance(given, list) and given and all(map(_is_long, given)):
        return tuple(given)
    raise Unfit(
        f"expected keys of at least {SECRET_BYTES_MIN} bytes each, as from"
        " `openssl rand -base64 32`"
    )


def _is_long(key: object) -> bool:
    return isinstance(key, str) and len(key.encode("utf-8", "replace")) >= SECRET_BYTES_MIN


def queue_names(value: object) -> tuple[QueueName, ...]:
    """A list ["critical:3", "default"], or the same as text: "critical:3,default"."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not value:
        raise Unfit('expected queue names, like ["critical", "default"] or "critical:3,default"')
    names = tuple(_queue_name(item) for item in value)
    twice = sorted({name for name, _ in names if [n for n, _ in names].count(name) > 1})
    if twice:
        raise Unfit(f"queue {one_of(twice)} is given twice")
    return names


def queue_weights(value: object) -> dict[str, int]:
    if isinstance(value, str):
        named = queue_names(value)
        value = {name: 1 if weight is None else weight for name, weight in named}
    if not isinstance(value, dict):
        raise Unfit("expected a table of queue = weight, like {critical = 3, default = 1}")
    return {_queue_name(name).name: _weight(name, weight) for name, weight in value.items()}


def time_zone(value: object) -> str:
    # Imported only where a zone is named: most daemons need none.
    from zoneinfo import ZoneInfo, available_timezones

    if not isinstance(value, str) or not value:
        raise Unfit('expected a time zone, like "Europe/Rome"')
    try:
        return ZoneInfo(value).key
    except (OSError, ValueError, KeyError):
        near = did_you_mean(value, available_timezones())
        raise Unfit(f'expected a time zone, like "Europe/Rome"{near}') from None


def _queue_name(item: object) -> QueueName:
    name, colon, weight = item.partition(":") if isinstance(item, str) else ("", "", "")
    if not NAME_PATTERN.fullmatch(name):
        raise Unfit(
            f"{item!r} is no queue name: expected letters, digits, dots, dashes, underscores"
        )
    return QueueName(
        name, _weight(name, int(weight) if weight.isdecimal() else weight) if colon else None
    )


def _weight(name: str, weight: object) -> int:
    if isinstance(weight, int) and not isinstance(weight, bool) and 1 <= weight <= WEIGHT_MAX:
        return weight
    raise Unfit(
        f"weight {weight!r} of queue {name!r}: expected a whole number from 1 to {WEIGHT_MAX}"
    )


SECRETS = Kind(f"a list of keys of at least {SECRET_BYTES_MIN} bytes, or one on each line", secrets)
APP = Kind("`module:attribute`", app_path)
URL = Kind("a storage URL", storage_url)
NAME = Kind("a name of letters, digits, `.`, `-`, `_`", instance_name, str.strip)
ADDRESS = Kind('HOST:PORT, or "off"', address, str.strip, {"off": None})
SOCKET = Kind("a path", socket_path)
ACCOUNT = Kind("a name or number", account, str.strip)
UMASK = Kind('octal digits like "027"', umask, str.strip)
QUEUES = Kind('a list of names, or "a,b:2"', queue_names)
WEIGHTS = Kind("a table of queue = weight", queue_weights)
TIME_ZONE = Kind("an IANA time zone", time_zone, str.strip)

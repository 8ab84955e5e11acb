"""Storages by URL.  Which one a URL names, and nothing of what it does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from taskqd.errors import ConfigError

if TYPE_CHECKING:
    from taskqd.settings import Durability
    from taskqd.storage.base import Storage

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
KNOWN = (
    "memory://",
    "sqlite:///relative.db",
    "sqlite:////absolute/path.db",
    *(f"{scheme}://" for scheme in REDIS_SCHEMES),
)
_PASSWORD = re.compile(r"(?<=:)[^:@/]*(?=@)")
_PASSWORD_OPTION = re.compile(r"(?<=[?&]password=)[^&#]*")


def open_storage(
    url: str,
    namespace: str,
    *,
    durability: Durability | None = None,
    allow_eviction: bool = False,
) -> Storage:
    """Return the storage that `url` names; connects at first use or now, as the kind likes.

    Raises ConfigError for a URL that names none, StorageRefused, StorageUnavailable or
    StorageCorrupt for a storage that cannot be used.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme == "memory":
        return _open_memory(url, namespace)
    if scheme == "sqlite":
        return _open_sqlite(url, namespace, durability)
    if scheme in REDIS_SCHEMES:
        from taskqd.storage.redis import RedisStorage

        return RedisStorage(url, namespace, durability=durability, allow_eviction=allow_eviction)
    raise ConfigError(f"storage {mask_url(url)!r}: unknown kind; known are {', '.join(KNOWN)}")


def mask_url(url: str) -> str:
    """Return `url` with its passwords replaced by ``***``, for logs and messages."""
    head, found, rest = url.partition("://")
    if not found:
        return url
    return head + found + _PASSWORD_OPTION.sub("***", _PASSWORD.sub("***", rest))


def _open_memory(url: str, namespace: str) -> Storage:
    from taskqd.storage.memory import MemoryStorage

    parts = urlsplit(url)
    options = _options(url, parts.query, ("max_jobs",))
    return MemoryStorage(namespace, world=parts.netloc, max_jobs=_number(url, "max_jobs", options))


def _open_sqlite(url: str, namespace: str, durability: Durability | None) -> Storage:
    from taskqd.storage.sqlite import SqliteStorage

    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path:
        raise ConfigError(
            f"storage {url!r}: expected sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    options = _options(url, parts.query, ("synchronous", "max_mb"))
    synchronous = options.get("synchronous", "normal" if durability == "memory" else "full")
    if synchronous not in ("full", "normal"):
        raise ConfigError(f"storage {url!r}: synchronous={synchronous}: expected full or normal")
    max_mb = _number(url, "max_mb", options)
    return SqliteStorage(path, namespace, synchronous=synchronous, max_mb=max_mb)


def _options(url: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, True).items()}
    for name in options:
        if name not in known:
            raise ConfigError(
                f"storage {mask_url(url)!r}: unknown option {name!r}; known are {', '.join(known)}"
            )
    return options


def _number(url: str, name: str, options: dict[str, str]) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"storage {mask_url(url)!r}: {name}={text!r}: expected a number above 0")
    return int(text)

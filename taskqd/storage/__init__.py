"""Storages by URL.  Which one a URL names, and nothing of what it does."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from taskqd.errors import ConfigError
from taskqd.settings import Durability
from taskqd.storage.base import Storage
from taskqd.urls import mask_url, scheme_of

__all__ = ["KNOWN", "REDIS_SCHEMES", "mask_url", "namespaces", "open_storage"]

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")
KNOWN = (
    "memory://",
    "sqlite:///relative.db",
    "sqlite:////absolute/path.db",
    *(f"{scheme}://" for scheme in REDIS_SCHEMES),
)


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
    scheme = scheme_of(url)
    if scheme == "memory":
        return _open_memory(url, namespace)
    if scheme == "sqlite":
        return _open_sqlite(url, namespace, durability)
    if scheme in REDIS_SCHEMES:
        from taskqd.storage.redis import RedisStorage

        return RedisStorage(url, namespace, durability=durability, allow_eviction=allow_eviction)
    raise ConfigError(f"storage {mask_url(url)!r}: unknown kind; known are {', '.join(KNOWN)}")


def namespaces(url: str) -> list[str]:
    """Return the names of all apps that keep something in the storage, sorted.

    Raises as `open_storage`; a look at a server reads the names of all its keys.
    """
    scheme = scheme_of(url)
    if scheme == "sqlite":
        from taskqd.storage.sqlite.views import namespaces as in_file

        return in_file(_sqlite_path(url))
    if scheme in REDIS_SCHEMES:
        from taskqd.storage.redis.views import namespaces as on_server

        return on_server(url)
    raise ConfigError(f"storage {mask_url(url)!r}: cannot be asked for its namespaces")


def _open_memory(url: str, namespace: str) -> Storage:
    from taskqd.storage.memory import MemoryStorage

    parts = _split(url)
    options = _options(url, parts.query, ("max_jobs",))
    return MemoryStorage(namespace, world=parts.netloc, max_jobs=_number(url, "max_jobs", options))


def _open_sqlite(url: str, namespace: str, durability: Durability | None) -> Storage:
    from taskqd.storage.sqlite import SqliteStorage

    path = _sqlite_path(url)
    options = _options(url, _split(url).query, ("synchronous", "max_mb"))
    synchronous = options.get("synchronous", "normal" if durability == "memory" else "full")
    if synchronous not in ("full", "normal"):
        raise ConfigError(f"storage {url!r}: synchronous={synchronous}: expected full or normal")
    max_mb = _number(url, "max_mb", options)
    return SqliteStorage(path, namespace, synchronous=synchronous, max_mb=max_mb)


def _sqlite_path(url: str) -> str:
    parts = _split(url)
    path = unquote(parts.path[1:])
    if parts.netloc or not path:
        raise ConfigError(
            f"storage {url!r}: expected sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    return path


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"storage {mask_url(url)!r}: {error}") from None


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

"""Where the server is: what a storage's URL says, and what Sentinels say of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote

from redis import connection as connecting
from redis import exceptions as driver
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry

from taskqd.errors import ConfigError, StorageUnavailable
from taskqd.urls import mask_url, scheme_of

CONNECT_S = 2.0
SENTINEL_PORT = 26379
PORT = 6379

_SENTINEL_URL = re.compile(
    r"redis\+sentinel://(?:(?P<auth>[^@/]*)@)?(?P<hosts>[^/?@]+)/(?P<name>[^/?]+)"
    r"(?:/(?P<db>\d+))?(?:\?(?P<query>.*))?"
)
_CLUSTER_URL = re.compile(
    r"(?P<scheme>rediss?)\+cluster://(?:(?P<auth>[^@/]*)@)?(?P<hosts>[^/?@]+)(?:/0?)?"
    r"(?:\?(?P<query>.*))?"
)
_HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}


_new_connection: Callable[..., Any] = Connection


def use_sockets(sockets: ModuleType) -> None:
    """Have the driver look into `sockets` where it would into the module `socket`."""
    vars(connecting)["socket"] = sockets


class Sentinels(NamedTuple):
    """Servers that know which one is the master of `name`."""

    name: str
    hosts: Sequence[tuple[str, int]]
    options: dict[str, Any]

    def master(self, where: str) -> tuple[str, int]:
        """Return host and port of the master.  Raises StorageUnavailable."""
        failures = []
        for host, port in self.hosts:
            try:
                found = self._ask(host, port)
            except (driver.RedisError, OSError) as error:
                failures.append(f"{host}:{port}: {error}")
                continue
            if found:
                return found[0].decode(), int(found[1])
            failures.append(f"{host}:{port}: knows no master {self.name!r}")
        raise StorageUnavailable(f"{where}: no Sentinel names a master ({'; '.join(failures)})")

    def _ask(self, host: str, port: int) -> Any:
        connection: Any = _new_connection(host=host, port=port, **self.options)
        try:
            connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
            return connection.read_response()
        finally:
            connection.disconnect()


class Address(NamedTuple):
    where: str
    """The URL without its secrets, for messages."""
    kind: type[AbstractConnection]
    options: dict[str, Any]
    """What the driver's connection is made with."""
    sentinels: Sentinels | None = None
    seeds: Sequence[tuple[str, int]] = ()
    """Some servers of a cluster; each knows the others."""


def address(url: str, timeout_s: float) -> Address:
    """Return what `url` says; replies may take `timeout_s`.  Raises ConfigError."""
    where = mask_url(url)
    limits = _limits(timeout_s)
    sentinels, seeds = None, list[tuple[str, int]]()
    if scheme_of(url) == "redis+sentinel":
        sentinels, url = _split_sentinel_url(url, where, limits)
    elif is_cluster(url):
        seeds, url = _split_cluster_url(url, where)
    try:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"storage {where!r}: {error}") from None
    kind = options.pop("connection_class", Connection)
    if not issubclass(kind, UnixDomainSocketConnection):
        options["socket_keepalive"] = True
    return Address(where, kind, options | limits, sentinels, seeds)


def is_cluster(url: str) -> bool:
    return scheme_of(url).endswith("+cluster")


def _limits(timeout_s: float) -> dict[str, Any]:
    """Return explicit settings for all that the driver would do on its own."""
    accepted = inspect.signature(AbstractConnection.__init__).parameters
    # Else each connect announces the driver's name, in a command that old servers do not know.
    silent = ("driver_info",) if "driver_info" in accepted else ("lib_name", "lib_version")
    return {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": timeout_s,
        "decode_responses": False,
        **dict.fromkeys(silent),
    }


def _split_cluster_url(url: str, where: str) -> tuple[list[tuple[str, int]], str]:
    """Return some servers, and a URL for the first of them."""
    match = _CLUSTER_URL.fullmatch(url)
    seeds = _hosts(match["hosts"], PORT) if match else []
    if match is None or not seeds:
        raise ConfigError(
            f"storage {where!r}: expected redis+cluster://[user:password@]HOST[:PORT],... "
            "(or rediss+cluster://), without a database: a cluster has only one"
        )
    auth = f"{match['auth']}@" if match["auth"] else ""
    query = f"?{match['query']}" if match["query"] else ""
    return seeds, f"{match['scheme']}://{auth}{quote(seeds[0][0], safe='.-')}/0{query}"


def _hosts(text: str, port: int) -> list[tuple[str, int]]:
    """Return host and port of each; [] where one is not legal."""
    found = [_HOST.fullmatch(part) for part in text.split(",")]
    hosts = [(host[1].strip("[]"), int(host[2] or port)) for host in found if host]
    return hosts if len(hosts) == len(found) else []


def _split_sentinel_url(url: str, where: str, limits: dict[str, Any]) -> tuple[Sentinels, str]:
    """Return the Sentinels, and a URL with everything but the master's address."""
    match = _SENTINEL_URL.fullmatch(url)
    known = _hosts(match["hosts"], SENTINEL_PORT) if match else []
    if match is None or not known:
        raise ConfigError(
            f"storage {where!r}: expected redis+sentinel://[user:password@]HOST[:PORT],.../MASTER[/DB]"
        )
    query = {name: values[-1] for name, values in parse_qs(match["query"] or "").items()}
    unknown = sorted(set(query) - _SENTINEL_OPTIONS)
    if unknown:
        raise ConfigError(
            f"storage {where!r}: unknown option {unknown[0]!r}; known are "
            + ", ".join(sorted(_SENTINEL_OPTIONS))
        )
    access = {name.removeprefix("sentinel_"): value for name, value in query.items()}
    options = limits | access | {"socket_timeout": CONNECT_S}
    auth = f"{match['auth']}@" if match["auth"] else ""
    plain = f"redis://{auth}{quote(known[0][0], safe='.-')}/{match['db'] or 0}"
    return Sentinels(unquote(match["name"]), known, options), plain

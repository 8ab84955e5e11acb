"""What the server's errors mean: every error of the driver becomes one of ours, here only."""

from __future__ import annotations

import re

from redis import exceptions as driver

from taskqd.errors import (
    OutcomeUnknown,
    QueueFull,
    StorageCorrupt,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)

# The driver strips the code of those errors that have a class of their own.
_CODES: tuple[tuple[type[driver.RedisError], str], ...] = (
    (driver.OutOfMemoryError, "OOM"),
    (driver.ReadOnlyError, "READONLY"),
    (driver.BusyLoadingError, "LOADING"),
    (driver.MasterDownError, "MASTERDOWN"),
    (driver.ClusterDownError, "CLUSTERDOWN"),
    (driver.TryAgainError, "TRYAGAIN"),
    (driver.MovedError, "MOVED"),  # before its base
    (driver.AskError, "ASK"),
    (driver.NoPermissionError, "NOPERM"),
    (driver.AuthorizationError, "NOPERM"),
    (driver.AuthenticationError, "NOAUTH"),
)

WAIT = {
    "READONLY": "it is a replica, or was one a moment ago",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica without its master",
    "CLUSTERDOWN": "the cluster does not serve this slot",
    "TRYAGAIN": "the cluster is moving this slot",
    "ASK": "the cluster is moving this slot",
    "MOVED": "another server of the cluster has this slot now",
    "MISCONF": "it cannot write its snapshots: look at its disk and its log",
    "NOREPLICAS": "it lacks the replicas that min-replicas-to-write asks for",
    "UNBLOCKED": "it became a replica while a blocking read was under way",
    "BUSY": "it is busy with a script",
    "UNKILLABLE": "it is busy with a script",
}
REFUSED = {
    "NOAUTH": "give the right user and password in the storage's URL",
    "WRONGPASS": "give the right user and password in the storage's URL",
    "NOPERM": "the user lacks a permission; see docs/redis.md for the list to grant",
}

# Before version 7 an error of a command inside a script stands behind the script's own words.
_INSIDE = re.compile(r"(?:-|\d: )([A-Z]{3,}) ")
_FORBIDDEN = re.compile(r"The user executing the script can't|ACL failure in script")
_LEADING = re.compile(r"([A-Z]{3,})\b")


def code_of(error: driver.RedisError) -> str:
    """Return the server's error code ("OOM", "READONLY", ...), "" where there is none."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    text = str(error)
    if _FORBIDDEN.search(text):
        return "NOPERM"
    leading = _LEADING.match(text)
    if leading and leading[1] != "ERR":
        return leading[1]
    inside = _INSIDE.search(text)
    return inside[1] if inside else ""


def is_reply(error: driver.RedisError) -> bool:
    """Whether the server answered (its answer being this error), so the outcome is known."""
    return isinstance(
        error, (driver.ResponseError, driver.AuthenticationError, driver.BusyLoadingError)
    )


def translate(error: driver.RedisError | OSError, where: str, *, unknown: bool) -> StorageError:
    """Return the error to raise.

    `unknown`: a write was sent; whether it took effect is not known unless `error` is the server's
    own answer.
    """
    if isinstance(error, driver.RedisError) and is_reply(error):
        return _of_reply(error, where)
    if unknown:
        return OutcomeUnknown(
            f"{where}: the connection broke after a write was sent ({error}); "
            "whether it took effect is not known, repeating it under the same id is safe"
        )
    if isinstance(error, (driver.ConnectionError, driver.TimeoutError, OSError)):
        return StorageUnavailable(f"{where}: {error}")
    return StorageCorrupt(f"{where}: {type(error).__name__}: {error}")


def _of_reply(error: driver.RedisError, where: str) -> StorageError:
    code = code_of(error)
    if code == "OOM":
        return QueueFull(
            f"{where}: OOM: the server is at its maxmemory; jobs that it holds still run: "
            "let workers drain it, or raise maxmemory"
        )
    if code in WAIT:
        return StorageUnavailable(f"{where}: {code}: {WAIT[code]}")
    if code in REFUSED:
        return StorageRefused(f"{where}: {code}: {REFUSED[code]} (the server says: {error})")
    if code == "WRONGTYPE":
        return StorageCorrupt(
            f"{where}: a key of this namespace holds another type of value: "
            "does another program use it?  Choose another app name"
        )
    if isinstance(error, driver.ConnectionError):
        return StorageUnavailable(f"{where}: {error}")
    return StorageRefused(f"{where}: {error}")

"""Job ids: unique without a server, cheap by the million, and neighbours share a prefix.

An id is 16 random characters of this process (80 bits) and a counter in hexadecimal.  All but the
last character of an id name a *bucket*: results of 16 consecutive jobs are kept and expire
together.
"""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Iterator
from typing import Any

from taskqd.errors import ConfigError
from taskqd.jobs.job import ID_PATTERN

_counter: Iterator[int] = itertools.count()
_prefix = ""


def _renew() -> None:
    """Take a new prefix.  Called after a fork too: parent and child must never share one."""
    global _prefix, _counter
    _prefix = base64.b32encode(os.urandom(10)).decode().lower()
    _counter = itertools.count(0x10000)


_renew()
os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """Return a fresh job id (21 characters or a little more)."""
    return f"{_prefix}{next(_counter):x}"


def bucket(job_id: str) -> tuple[str, str]:
    """Return (bucket, field) under which the job's answer is kept."""
    return job_id[:-1], job_id[-1:]


def checked_id(job_id: Any) -> str:
    """Return the id that a user gave.  Raises ConfigError where it cannot be one."""
    if isinstance(job_id, str) and ID_PATTERN.fullmatch(job_id):
        return job_id
    raise ConfigError(f"id = {job_id!r}: expected 1 to 64 characters of {ID_PATTERN.pattern[:-6]}")

"""Which apps keep something on a server: a look at the names of its keys."""

from __future__ import annotations

import re

from taskqd.storage.redis import keys
from taskqd.storage.redis.connection import Link

_OWN = re.compile(re.escape(keys.queues("NAME")).replace("NAME", "(.+)"))


def namespaces(url: str) -> list[str]:
    """Return the namespaces that have announced a queue, sorted; reads the names of all keys."""
    link, found, cursor = Link(url), set[str](), b"0"
    try:
        while True:
            scan = ("SCAN", cursor, "MATCH", keys.queues("*"), "COUNT", 1000)
            cursor, page = link.call(*scan, write=False)
            found.update(
                match[1] for key in page if (match := _OWN.fullmatch(key.decode(errors="replace")))
            )
            if cursor == b"0":
                return sorted(found)
    finally:
        link.close()

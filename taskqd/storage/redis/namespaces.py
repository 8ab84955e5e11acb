"""Which apps keep something on a server: a look at the names of its keys."""

from __future__ import annotations

import re

from taskqd.storage.redis import keys
from taskqd.storage.redis.cluster import open_link
from taskqd.storage.redis.view import scan_pages

_OWN = re.compile(re.escape(keys.queues("NAME")).replace("NAME", "(.+)"))


def namespaces(url: str) -> list[str]:
    """Return the namespaces that have announced a queue, sorted; reads the names of all keys."""
    link, found = open_link(url), set[str]()
    try:
        for server in link.servers():
            for page in scan_pages(server, keys.queues("*")):
                names = (_OWN.fullmatch(key.decode(errors="replace")) for key in page)
                found.update(match[1] for match in names if match)
        return sorted(found)
    finally:
        link.close()

"""The system's epoll, for a storage that is imported behind gevent's patches."""

from __future__ import annotations

import subprocess
import sys

import pytest

PATCHED = """
from taskqd.worker.slots.greenlets.patch import patch
patch()
import select
assert not hasattr(select, "epoll"), "nothing to prove here"
from taskqd.storage.redis.link import blocking_reads
blocking_reads.epoll().close()
"""


def test_greenlet_workers_of_several_servers_found_no_epoll() -> None:
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-c", PATCHED], check=True, timeout=60)

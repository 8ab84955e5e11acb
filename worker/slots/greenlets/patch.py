"""gevent's patches of the standard library, for workers whose users' code runs in greenlets.

They are made in the zygote, before the app is imported, and never in the master.  What is ours
has bound what it needs of the library by then (`taskqd.worker.host.native_threads`).
"""

from __future__ import annotations

import socket
from importlib import import_module
from types import ModuleType
from typing import Any

from taskqd.errors import NO_GEVENT, ConfigError
from taskqd.storage.drivers import preload, use_sockets
from taskqd.worker.host import native_threads


def patch() -> None:
    """Make the standard library cooperative.  Raises ConfigError where gevent is not installed."""
    # Its driver is one that blocks, and is told to in threads of ours: it binds what it needs now.
    preload("sqlite://")
    import_module("taskqd.storage.polling")
    try:
        monkey = import_module("gevent.monkey")
    except ImportError:
        raise ConfigError(NO_GEVENT) from None
    monkey.patch_all()


def split_sockets(storage_url: str) -> None:
    """Give the storage's driver the system's own sockets in threads of ours."""
    use_sockets(storage_url, Sockets())


class Sockets(ModuleType):
    """The module `socket`: as it was for threads of ours, as gevent has made it for all others."""

    def __init__(self) -> None:
        super().__init__("socket")
        self._original = import_module("gevent.monkey").get_original

    def __getattr__(self, name: str) -> Any:
        return self._original("socket", name) if native_threads.is_ours() else getattr(socket, name)

"""Which package serves which URL, for those who want it imported before it is used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from taskqd.storage import REDIS_SCHEMES
from taskqd.urls import scheme_of


def preload(url: str) -> None:
    """Import what `open_storage(url)` would, and connect to nothing.

    A process that forks calls it, so that the pages of the driver are shared by its children.
    """
    scheme = scheme_of(url)
    kind = "redis" if scheme in REDIS_SCHEMES else scheme
    if kind in {"memory", "redis", "sqlite"}:
        import_module(f"taskqd.storage.{kind}")


def use_sockets(url: str, sockets: ModuleType) -> None:
    """Have the driver of `url` make its sockets with this stand-in for the module `socket`."""
    if scheme_of(url) in REDIS_SCHEMES:
        import_module("taskqd.storage.redis.link.address").use_sockets(sockets)

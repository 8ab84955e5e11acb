"""The storage of a run in which daemons and workers are killed, and the storage is not."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.chaos.world import Broke
from tests.support.servers.redis_server import RedisServer, available_servers


def serve_storage(stack: ExitStack, storage: str, folder: Path) -> str:
    """Return the URL; a server ends with `stack`.  Raises Broke where there is none to start."""
    if storage == "sqlite":
        return f"sqlite:///{folder}/jobs.db"
    binary = available_servers().get(storage)
    if binary is None:
        raise Broke(f"no {storage} server on this machine")
    server = RedisServer(binary, folder / "server", appendfsync="always")
    stack.callback(server.stop)
    return server.start().url

"""One dedicated connection with explicit limits: nothing is retried or pooled behind our back.

Connecting takes at most 2 s, a call 5 s, a lost peer is noticed by keepalive.  A broken connection
is dropped and opened anew by the next call; so is one to a server that turned read-only, whose
name may lead to another machine by then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, cast

from redis import exceptions as driver
from redis.connection import SSLConnection
from redis.exceptions import NoScriptError, RedisError

from taskqd.clock import monotonic_s
from taskqd.errors import ConfigError, StorageError, StorageUnavailable
from taskqd.storage.redis.keyspace.scripts import Script
from taskqd.storage.redis.link.address import address
from taskqd.storage.redis.link.faults import code_of, is_reply, translate

CALL_S = 5.0
BLOCK_S = 1
"""One blocking read.  It is short, because only a server that answers is known not to be silent."""
SILENT_S = 1.0
"""A blocking read that has not ended so long after its time never will: the server is silent."""
PIECE_BYTES = 65_536
"""Commands are sent together up to this size."""
STALE_S = 0.05
"""A connection unused for so long is looked at before it is trusted with a write."""

Args = Sequence[Any]
"""One command: str, bytes, int or float."""

_RECONNECT = (
    "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "NOREPLICAS", "MISCONF", "LOADING",
)  # fmt: skip
"""Another server may have taken its place, or has to be logged in to anew: who is asked next is sought
again (a Sentinel, a name, the cluster's map)."""


@cache
def fast_pack() -> Callable[[tuple[Any, ...]], bytes] | None:
    """Return hiredis's encoder of commands, None where it is not installed."""
    try:
        return cast("Callable[[tuple[Any, ...]], bytes]", import_module("hiredis").pack_command)
    except ImportError:
        return None


class Link:
    """A connection to the server of `url`, opened at first use, by one thread of one process.

    `seek` tells its host and port each time that it is opened; of a cluster's server.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = CALL_S,
        seek: Callable[[], tuple[str, int]] | None = None,
    ) -> None:
        self.where, kind, options, self._sentinels, _ = address(url, timeout_s)
        self._url = url
        self._seek = seek
        try:
            self._connection: Any = kind(**options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"storage {self.where!r}: {error}") from None
        self._is_tls = issubclass(kind, SSLConnection)
        self._loaded: set[str] = set()
        self._pid = os.getpid()
        self._used_s = 0.0
        self._lock = threading.Lock()
        """Keeps replies apart should two threads call at once, which they are not meant to."""
        self.connects = 0
        """How often it was opened: who keeps something for a connection compares this."""

    def servers(self) -> list[Link]:
        """Return the one that there is; see `Cluster.servers`."""
        return [self]

    def lanes(self, keys: Sequence[str]) -> list[tuple[Link, list[str]]]:
        """Return new connections for blocking reads of these keys; see `Cluster.lanes`."""
        return [(Link(self._url, timeout_s=BLOCK_S + SILENT_S), list(keys))]

    def server_of(self, key: str) -> Link:
        return self

    def place_of(self, key: str) -> None:
        """There is one server; see `Cluster.place_of`."""

    def is_at_hand(self, key: str) -> bool:
        return self.is_connected

    # -- commands --------------------------------------------------------------------------

    def call(self, *args: Any, write: bool = True) -> Any:
        """Send one command and return its reply."""
        return self.pipeline([args], write=write)[0]

    def pipeline(self, commands: Sequence[Args], *, write: bool = True) -> list[Any]:
        """Send commands in one go and return their replies; raises the first error among them."""
        replies = self.exchange(commands, write)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise self.failure(reply)
        return replies

    def run(self, script: Script, key: str, args: Args, *, write: bool = True) -> Any:
        """Run one script.  The hot path of everything."""
        if script.sha not in self._loaded or self._stale():
            return self.run_all([(script, key, args)], write=write)[0]
        [reply] = replies = self.exchange([("EVALSHA", script.sha, 1, key, *args)], write)
        if isinstance(reply, RedisError):
            return self._again([(script, key, args)], (), replies, write)[0]
        return reply

    def is_ready_for(self, script: Script) -> bool:
        return script.sha in self._loaded and not self._stale()

    def run_all(
        self,
        calls: Sequence[tuple[Script, str, Args]],
        *,
        write: bool = True,
        then: Sequence[Args] = (),
    ) -> list[Any]:
        """Run scripts in one go, then the commands `then`; return all replies."""
        self.load(*(call[0] for call in calls))
        commands: list[Args] = [("EVALSHA", call[0].sha, 1, call[1], *call[2]) for call in calls]
        commands += then
        replies = self.exchange(commands, write)
        for reply in replies:
            if isinstance(reply, RedisError):
                return self._again(calls, then, replies, write)
        return replies

    def _again(
        self,
        calls: Sequence[tuple[Script, str, Args]],
        then: Sequence[Args],
        replies: list[Any],
        write: bool,
    ) -> list[Any]:
        """Repeat what failed because the server forgot the scripts; it had no effect."""
        for reply in replies:
            if isinstance(reply, RedisError) and not isinstance(reply, NoScriptError):
                raise self.failure(reply)
        self.forget_scripts()
        forgotten = [i for i in range(len(calls)) if isinstance(replies[i], NoScriptError)]
        again = self.run_all([calls[i] for i in forgotten], write=write, then=then)
        for i, reply in zip(forgotten, again, strict=False):
            replies[i] = reply
        replies[len(calls) :] = again[len(forgotten) :]
        return replies

    def load(self, *scripts: Script) -> None:
        """Make the scripts known to the server, once for each connection."""
        if self._stale():
            self.close()
        missing = {item.sha: item for item in scripts if item.sha not in self._loaded}
        if missing:
            self.pipeline([("SCRIPT", "LOAD", item.text) for item in missing.values()], write=False)
            self._loaded |= missing.keys()

    def forget_scripts(self) -> None:
        """The server said that it does not know them (any more)."""
        self._loaded.clear()

    def exchange(self, commands: Sequence[Args], write: bool) -> list[Any]:
        """Send commands in one go and return their replies, errors among them."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()  # its holder stayed in the parent
        with self._lock:
            self.send(commands)
            return [self.read(write=write) for _ in commands]

    # -- one half at a time ----------------------------------------------------------------

    def send(self, commands: Sequence[Args]) -> None:
        """Send commands without waiting for their replies."""
        used = self.is_connected
        self.open()
        connection = self._connection
        try:
            for piece in self._pack(commands):
                connection.send_packed_command(piece, check_health=False)
        except (RedisError, OSError) as error:
            self.close()
            if used and len(commands) == 1 and isinstance(error, driver.ConnectionError):
                # The server had gone before; a command that was not sent whole has no effect.
                self.send(commands)
                return
            raise translate(error, self.where, unknown=len(commands) > 1) from error

    def _pack(self, commands: Sequence[Args]) -> Iterator[list[bytes]]:
        """Pack in pieces, so that the server works on one while the next is packed."""
        pack = fast_pack() or self._pack_slowly
        piece, size = [], 0
        for command in commands:
            packed = pack(tuple(command))
            piece.append(packed)
            size += len(packed)
            if size >= PIECE_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece if len(piece) == 1 else [b"".join(piece)]

    def _pack_slowly(self, command: tuple[Any, ...]) -> bytes:
        return b"".join(self._connection.pack_command(*command))

    def read(self, *, write: bool = True) -> Any:
        """Read one reply; an error that the server answers is returned, not raised."""
        try:
            reply = self._connection.read_response(disconnect_on_error=True)
        except (RedisError, OSError) as error:
            if isinstance(error, RedisError) and is_reply(error):
                return error
            self.close()
            raise translate(error, self.where, unknown=write) from error
        self._used_s = monotonic_s()
        return reply

    def open(self) -> None:
        """Connect, unless connected."""
        if self._pid != os.getpid() or self._stale():
            self.close()
        if self.is_connected:
            return
        self._pid = os.getpid()
        self._loaded.clear()
        self.connects += 1
        if self._sentinels is not None:
            self._connection.host, self._connection.port = self._sentinels.master(self.where)
        elif self._seek is not None:
            self._connection.host, self._connection.port = self._seek()
        try:
            self._connection.connect()
            self._check_fresh()
        except (RedisError, OSError) as error:
            self.close()
            raise translate(error, self.where, unknown=False) from error
        self._used_s = monotonic_s()

    def _check_fresh(self) -> None:
        """Exchange first words where the connection needs them."""
        if self._sentinels is not None:
            self._connection.send_command("ROLE")
            if self._connection.read_response()[0] != b"master":
                self.close()
                raise StorageUnavailable(f"{self.where}: READONLY: the Sentinel named a replica")
        elif self._is_tls:
            # Behind the handshake come session tickets; unread, they would look like a reply.
            self._connection.send_command("PING")
            self._connection.read_response()

    @property
    def host(self) -> str:
        return str(self._connection.host)

    @property
    def is_connected(self) -> bool:
        return self._connection._sock is not None

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 while not connected."""
        sock = self._connection._sock
        return -1 if sock is None else int(sock.fileno())

    def is_readable(self) -> bool:
        """Whether a reply, or the end of the connection, is there to be read."""
        try:
            return self.is_connected and bool(self._connection.can_read(0))
        except (RedisError, OSError):
            return True

    def close(self) -> None:
        """Drop the connection; in a forked child, without a word to the server."""
        self._connection.pid = self._pid
        self._connection.disconnect()

    def _stale(self) -> bool:
        """Whether the peer has closed a connection that was idle for a while."""
        return monotonic_s() - self._used_s >= STALE_S and self.is_readable()

    def failure(self, error: RedisError) -> StorageError:
        """Return what to raise for an error that the server answered."""
        if code_of(error) in _RECONNECT:
            self.close()
        return translate(error, self.where, unknown=False)

"""The admin socket of the daemon: a request is one line of JSON, its answer another.

law: a caller can stop the daemon, so the socket's folder and mode keep others out, and the kernel's
word on who calls (SO_PEERCRED) is checked as well: the same user, or root
(test_only_its_user_can_reach_the_socket, test_a_caller_of_another_user_is_turned_away).
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from taskqd.errors import ConfigError

from .admin_client import REQUEST_BYTES_MAX, ask, socket_paths
from .listener import Reply

REQUESTS_MAX = 16
"""Requests that one caller may send at once, as each costs the master time."""

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def listen(path: str) -> socket.socket:
    """Bind the socket at `path`.  Raises ConfigError where another daemon answers there."""
    _make_folder(os.path.dirname(path) or ".")
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise ConfigError(f"admin.socket: cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    sock.listen(64)
    return sock


def choose_path(configured: str | None, instance: str) -> str:
    """Return the path for the socket of this instance: the configured one, else the first whose folder
    can be made."""
    if configured:
        return configured
    paths = socket_paths(instance)
    for path in paths[:-1]:
        with suppress(OSError, ConfigError):
            _make_folder(os.path.dirname(path))
            return path
    return paths[-1]


_CHOOSE = "set it, or RUNTIME_DIRECTORY or XDG_RUNTIME_DIR, to a place that can be written to"


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        info = os.stat(folder)
    except OSError as error:
        raise ConfigError(f"admin.socket: folder {folder}: {error.strerror}; {_CHOOSE}") from error
    if info.st_uid not in (os.getuid(), 0):
        text = f"folder {folder} belongs to user {info.st_uid}, not to us"
        raise ConfigError(f"admin.socket: {text}; {_CHOOSE}")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"admin.socket: folder {folder} cannot be written to; {_CHOOSE}")


def _clear(path: str) -> None:
    """Remove the socket of a dead daemon.  Raises ConfigError where a living one answers there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"admin.socket: {path} exists and is no socket; move it away")
    try:
        answer = ask(path, {"cmd": "hello"}, timeout_s=2.0)
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except OSError as error:
        raise ConfigError(f"admin.socket: {path}: {error}; remove it if no daemon runs") from error
    pid = answer.get("pid", "?")
    raise ConfigError(
        f"another daemon (pid {pid}) answers on {path}; stop it, or give this one another --name",
    )


class AdminConversation:
    """Answers the requests of one caller, who may send several."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._buffer = b""

    def receive(self, data: bytes) -> Reply:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > REQUEST_BYTES_MAX:
            return Reply(_line(_refusal("request longer than 64 KiB")), close=True)
        if len(lines) > REQUESTS_MAX:
            return Reply(_line(_refusal(f"more than {REQUESTS_MAX} requests at once")), close=True)
        return Reply(b"".join(self._answer(line) for line in lines if line.strip()), not data)

    def _answer(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
        except ValueError as error:
            return _line(_refusal(f"not JSON: {error}"))
        except RecursionError:
            return _line(_refusal("not JSON: nested too deeply; expected a flat object"))
        if not isinstance(request, dict) or not isinstance(request.get("cmd"), str):
            return _line(_refusal('expected an object like {"cmd": "status"}'))
        return _line(self._handle(request))


def converse(handle: Handler) -> Callable[[socket.socket], AdminConversation | None]:
    """Return a function that begins the conversation with a caller, or returns None for a caller who
    may not ask."""

    def begin(sock: socket.socket) -> AdminConversation | None:
        return AdminConversation(handle) if _peer_uid(sock) in (os.getuid(), 0) else None

    return begin


def _peer_uid(sock: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def _refusal(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"

"""The client of the admin socket: finds a running daemon and asks it.

It imports the standard library only, as probes start often
(test_the_client_takes_only_the_standard_library).

Errors are plain OSErrors: FileNotFoundError and ConnectionRefusedError where no daemon runs,
TimeoutError where it does not answer, PermissionError where it belongs to somebody else.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time

TYPE_CHECKING = False
"""A constant of our own, as in `taskqd`, so that a probe need not import `typing`."""

REQUEST_BYTES_MAX = 64 * 1024
RUN = "/run"
"""Where systemd keeps the folders of services."""
_PATH_BYTES_MAX = 107

if TYPE_CHECKING:
    from typing import Any

    Answer = dict[str, Any]
    """An answer has "ok", whether the request was met, and if not "error", which says why."""


def socket_paths(instance: str) -> list[str]:
    """Return the possible paths of this instance's socket; the daemon takes the first that it can make."""
    folders = [
        os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0],
        _under(os.environ.get("XDG_RUNTIME_DIR", "")),
        f"/tmp/taskqd-{os.getuid()}",  # noqa: S108 (its owner and mode are checked)
    ]
    return [f"{folder}/{instance}.sock" for folder in folders if folder]


def _under(folder: str) -> str:
    return f"{folder}/taskqd" if folder else ""


def _service_paths(instance: str) -> list[str]:
    """Return the possible paths of the socket of a systemd service, as seen from outside the service."""
    return [f"{RUN}/taskqd/{instance}.sock", f"{RUN}/taskqd-{instance}/{instance}.sock"]


def find(instance: str) -> str:
    """Return the path of this instance's socket.  Raises FileNotFoundError."""
    paths = socket_paths(instance)
    for path in (*paths, *_service_paths(instance)):
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"no daemon named {instance!r}: no socket at {', '.join(paths)}")


def only_instance() -> str:
    """Return the name of the one daemon that runs here.  Raises OSError for none and for several.

    The socket of a daemon that was killed stays behind and does not count.  Who runs in a unit or
    a pod (RUNTIME_DIRECTORY) means the daemon beside it.
    """
    own = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    found = (own and _living([own])) or _living(_folders())
    if len(found) == 1:
        return found[0]
    if found:
        raise OSError(f"several daemons run here: {', '.join(found)}; say --name")
    folders = ", ".join(_folders())
    raise FileNotFoundError(
        f"no daemon runs here, as far as sockets in {folders} tell; say --name or --socket"
    )


def _is_taken(path: str) -> bool:
    """Return whether a process listens at `path`, also if it is stopped or has too many callers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        return sock.connect_ex(path) in (0, errno.EAGAIN)


def _living(folders: list[str]) -> list[str]:
    return sorted({_name(path) for path in _sockets(folders) if _is_taken(path)})


def _folders() -> list[str]:
    """Return the folders where sockets may be: those of this user, then those of systemd's services."""
    own = [os.path.dirname(path) for path in socket_paths("*")]
    return own + [f"{RUN}/{name}" for name in _names(RUN) if _is_service(name)]


def _is_service(folder: str) -> bool:
    return folder == "taskqd" or folder.startswith("taskqd-")


def _sockets(folders: list[str]) -> list[str]:
    return [f"{at}/{name}" for at in folders for name in _names(at) if name.endswith(".sock")]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        # A folder that is absent or not ours has nothing for us.
        return []


def _name(path: str) -> str:
    return os.path.basename(path)[: -len(".sock")]


def ask(path: str, request: dict[str, object], *, timeout_s: float = 5.0) -> Answer:
    """Send one request and return the answer.  Raises OSError; `timeout_s` bounds it all."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise OSError(f"socket path is longer than {_PATH_BYTES_MAX} bytes: {path}")
    until_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        _connect(sock, path, until_s)
        sock.settimeout(timeout_s)
        sock.sendall(json.dumps(request).encode() + b"\n")
        answer: Answer = json.loads(_read_line(sock, until_s))
        return answer


def _connect(sock: socket.socket, path: str, until_s: float) -> None:
    """Connect to the socket; wait while its queue of callers is full, until `until_s`."""
    sock.setblocking(False)
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise TimeoutError("the daemon has too many callers") from None
            time.sleep(0.01)
        else:
            return


def _read_line(sock: socket.socket, until_s: float) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the daemon did not answer in time")
        sock.settimeout(left_s)
        chunk = sock.recv(65536)
        if not chunk:
            raise ConnectionResetError("the daemon hung up without an answer")
        data += chunk
    return data

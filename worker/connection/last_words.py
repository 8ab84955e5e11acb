"""What a worker that must go could not tell its storage: kept on this host, for whoever recovers it.

A file for each worker, of which nobody else can read or write: the ends of its jobs, and the requeues
of those that it left running.  A second one says what its master wanted to be done with the rest.  Without it, all that such a worker held would seem to have died with
it.  A folder that outlives the daemon is best: $STATE_DIRECTORY, else the places of the admin socket.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from taskqd.ipc.messages import RecoverWorker, encode
from taskqd.jobs.end import End
from taskqd.jobs.job import Outcome

_ENDS, _ORDER = ".ends", ".order"
_KEPT_S = 7 * 86400
_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode_order = msgspec.json.Decoder(RecoverWorker).decode


def folders() -> list[str]:
    """Return where last words may be kept, best first."""
    service = [os.environ.get(name, "") for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")]
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    found = [*(names.partition(":")[0] for names in service), session and f"{session}/taskqd"]
    return [folder for folder in found if folder] + [f"/tmp/taskqd-{os.getuid()}"]  # noqa: S108


class Words(msgspec.Struct, frozen=True):
    """What one worker has written down."""

    ends: list[End] = []
    left: bool = False
    """It has left as it was asked to: all that it ran is among the ends.  Else it may have been
    killed later, over what it ran then."""


_decode = msgspec.json.Decoder(Words).decode


class LastWords:
    """The files of this user's workers.  Nothing here raises but what `say` tells of."""

    def __init__(self, places: Sequence[str] | None = None) -> None:
        self._places = places

    def say(self, worker: str, outcomes: Sequence[Outcome], *, left: bool = False) -> None:
        """Keep these for who recovers `worker`; see `Words`.  Raises OSError."""
        ends = [
            msgspec.structs.replace(one, lease=None) if isinstance(one, End) else one
            for one in outcomes
        ]
        self._write(f"{worker}{_ENDS}", _encode({"ends": ends, "left": left}))

    def order(self, order: RecoverWorker) -> None:
        """Keep what is to be done for a dead worker, until it is done.  Raises OSError."""
        self._write(f"{order.worker_id}{_ORDER}", encode(order))

    def _write(self, name: str, data: bytes) -> None:
        path = f"{self._own_folder()}/{name}"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.replace(f"{path}.new", path)

    def heard(self, worker: str) -> Words:
        """Return what `worker` has written down; nothing, where it cannot be read."""
        for folder in self._folders():
            with suppress(OSError, msgspec.MsgspecError, ValueError, RecursionError):
                return _decode(_read(f"{folder}/{worker}{_ENDS}"))
        return Words()

    def ordered(self, worker: str) -> RecoverWorker | None:
        """Return what was to be done for `worker`; None: nothing that can be read."""
        for folder in self._folders():
            with suppress(OSError, msgspec.MsgspecError, ValueError, RecursionError):
                return _decode_order(_read(f"{folder}/{worker}{_ORDER}"))
        return None

    def forget(self, worker: str) -> None:
        for folder in self._folders():
            for suffix in (_ENDS, _ORDER):
                with suppress(OSError):
                    os.unlink(f"{folder}/{worker}{suffix}")

    def workers_of(self, node: str) -> list[str]:
        """Return the workers of a node that have left something."""
        names = {name for folder in self._folders() for name in _names(folder)}
        left = {name.removesuffix(_ENDS).removesuffix(_ORDER) for name in names if _is_word(name)}
        return sorted(worker for worker in left if worker.rpartition(".")[0] == node)

    def sweep(self) -> None:
        """Drop what nobody has asked for in a week: its node was recovered elsewhere."""
        for folder in self._folders():
            for name in _names(folder):
                path = f"{folder}/{name}"
                with suppress(OSError):
                    if (
                        _is_word(name.removesuffix(".new"))
                        and os.lstat(path).st_mtime < time.time() - _KEPT_S
                    ):
                        os.unlink(path)

    def _folders(self) -> Sequence[str]:
        return folders() if self._places is None else self._places

    def _own_folder(self) -> str:
        """Return the first that is ours, or can be made.  Raises OSError."""
        reason: OSError | None = None
        for folder in self._folders():
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                if _is_own(os.lstat(folder)) and os.access(folder, os.W_OK):
                    return folder
            except OSError as error:
                reason = error
        raise reason or PermissionError(f"no folder of our own among {', '.join(self._folders())}")


def _is_own(info: os.stat_result) -> bool:
    """Whether it is ours alone: what is read from it is written into the storage."""
    return info.st_uid == os.getuid() and not stat.S_IMODE(info.st_mode) & 0o022


def _read(path: str) -> bytes:
    """Return what a file of ours holds.  Raises OSError."""
    with open(path, "rb") as file:
        if not _is_own(os.fstat(file.fileno())):
            raise PermissionError(f"{path}: others can write to it")
        return file.read()


def _is_word(name: str) -> bool:
    return name.endswith((_ENDS, _ORDER))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []

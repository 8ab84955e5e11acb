"""The command `taskqd --check`: tries all that a start needs, and starts nothing."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

import taskqd
from taskqd.app import App
from taskqd.errors import NO_GEVENT, ConfigError, StorageError
from taskqd.loading import load_app
from taskqd.settings import Settings, slots_per_worker
from taskqd.storage import open_storage
from taskqd.urls import mask_url

from . import common
from .common import Fail

_STDLIB = os.path.dirname(os.path.realpath(os.__file__)) + os.sep
_OUR_FOLDERS = tuple(
    os.path.dirname(os.path.realpath(file)) + os.sep
    for file in (os.path.dirname(__file__), taskqd.__file__)
)


def check(settings: Settings, warnings: Sequence[str]) -> int:
    """Print a summary and return 0; raises Fail (78 app or storage URL, 69 storage)."""
    if settings.workers.type == "greenlet" and find_spec("gevent") is None:
        raise Fail(common.CONFIG, NO_GEVENT)
    _try_log_file(settings.log.file)
    app = import_app(settings.app)
    found = [*warnings, *_strange_queues(settings, app), *_try_storage(settings, app)]
    common.complain(f"warning: {warning}" for warning in found)
    common.show(_summary(settings, app))
    return common.OK


def _try_log_file(file: str | None) -> None:
    """Raise Fail where a start could not write the log file; the check makes none, as it may run as
    another user than the daemon."""
    if not file:
        return
    if os.path.isdir(file):
        raise common.log_failure(file, os.strerror(errno.EISDIR))
    place = file if os.path.exists(file) else os.path.dirname(file) or "."
    if not os.access(place, os.W_OK):
        missing = not os.path.exists(place)
        raise common.log_failure(file, os.strerror(errno.ENOENT if missing else errno.EACCES))


def import_app(path: str) -> App:
    """Import the user's app from the working directory or the Python path; raises Fail."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return load_app(path)
    except ConfigError as error:
        raise Fail(common.CONFIG, str(error)) from None
    except (Exception, SystemExit) as error:
        raise Fail(common.CONFIG, f"app {path!r}: {_what_and_where(error)}") from None


def _what_and_where(error: BaseException) -> str:
    """Return the error as ``file:line: Error: message``, with the last line of the user's code."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    what = " ".join(traceback.format_exception_only(error)[-1].split())
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if _is_users(frame.filename)]
    return f"{users[-1].filename}:{users[-1].lineno}: {what}" if users else what


def _is_users(filename: str) -> bool:
    """Return whether a frame is of the user's code: neither taskqd's nor the standard library's."""
    path = os.path.realpath(filename)
    if path.startswith(_OUR_FOLDERS) or not os.path.exists(path):
        return False
    return not path.startswith(_STDLIB) or "site-packages" in path


def _try_storage(settings: Settings, app: App) -> list[str]:
    """Ask the storage whether it serves; returns its warnings."""
    wanted = settings.storage
    url = wanted.url or app.storage_url
    try:
        storage = open_storage(
            url, app.name, durability=wanted.durability, allow_eviction=wanted.allow_eviction
        )
        try:
            storage.ping()
            return storage.warnings()
        finally:
            storage.close()
    except ConfigError as error:
        raise Fail(common.CONFIG, str(error)) from None
    except StorageError as error:
        raise common.storage_failure(url, error) from None


def _strange_queues(settings: Settings, app: App) -> Iterator[str]:
    for name in settings.queues.names:
        if name not in app.queues:
            yield f"queue {name!r}: no task of the app names it"
    for name in app.queues if settings.queues.names else ():
        if name not in settings.queues.names:
            yield f"queue {name!r}: tasks of the app use it, this daemon does not serve it"


def _summary(settings: Settings, app: App) -> Iterator[str]:
    workers = settings.workers
    yield f"app        {settings.app} ({app.name}): {len(app.registry)} tasks, {len(app.periodic_tasks)} periodic"
    yield f"storage    {mask_url(settings.storage.url or app.storage_url)}: ok"
    yield f"queues     {', '.join(settings.queues.names or app.queues)}"
    yield f"workers    {workers.count} of type {workers.type}, {slots_per_worker(workers)} jobs each"
    yield f"grace      {settings.shutdown.grace_s:g} s"
    yield f"health     {settings.health.bind or 'off'}"
    yield "ok"

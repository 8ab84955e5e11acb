"""Finds the daemon, the storage and the app that a command is about, from its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

from taskqd.errors import ConfigError, StorageError
from taskqd.supervisor.cli import common
from taskqd.supervisor.cli.common import Fail
from taskqd.supervisor.endpoints import admin_client
from taskqd.urls import mask_url, scheme_of

from .options import Options, options_of

if TYPE_CHECKING:
    from taskqd.app import App
    from taskqd.storage.base import Storage

DEFAULT_URL = "sqlite:///taskqd.db"
"""URL of the storage of an App that names none."""


def ask_daemon(
    options: Options, request: dict[str, Any], timeout_s: float = 10.0
) -> dict[str, Any]:
    """Send a request to the daemon and return its answer.

    Raises Fail where no daemon answers (69) or it refuses (1)."""
    path = socket_of(options)
    try:
        answer = admin_client.ask(path, request, timeout_s=timeout_s)
    except (OSError, ValueError) as error:
        text = f"no daemon answers on {path}: {error}"
        raise Fail(common.UNAVAILABLE, text) from None
    if not answer.pop("ok", False):
        raise Fail(common.FAILED, f"the daemon refuses: {answer.get('error')}")
    return answer


def socket_of(options: Options) -> str:
    """Return the path of the daemon's socket: that of the options, else the only one on this host."""
    if options.socket:
        return options.socket
    settings = options.read_config(options).settings
    if settings.admin.socket:
        return settings.admin.socket
    try:
        return admin_client.find(settings.name or admin_client.only_instance())
    except OSError as error:
        raise Fail(common.UNAVAILABLE, str(error)) from None


@contextmanager
def open_target(options: Options, *, create: bool = False) -> Iterator[Storage]:
    """Open the storage of the options; its errors become Fail (69, or 78 for a bad URL).

    `create`: the storage may begin to exist; else a missing file is an error and not made.
    """
    from taskqd.storage import open_storage

    try:
        url = storage_url(options)
        if not create:
            _insist_on_file(url)
        storage = open_storage(url, namespace_of(options, url))
        try:
            yield storage
        finally:
            storage.close()
    except ConfigError as error:
        raise Fail(common.CONFIG, str(error)) from None
    except StorageError as error:
        raise common.storage_failure(url, error) from None


@contextmanager
def open_app(options: Options) -> Iterator[App]:
    """Give the app of the options, configured as in its daemon; errors of its storage become Fail."""
    app = find_app(options, needed=True)
    if app is None:
        raise Fail(common.USAGE, "the app itself is needed here: say --app or --config")
    if options.namespace not in (None, app.name):
        text = f"--namespace {options.namespace}: app {app.name!r} has another one; leave it out"
        raise Fail(common.USAGE, text)
    settings = options.read_config(options).settings
    app.adopt(settings.storage, settings.limits, settings.scheduler, settings.crypto)
    _insist_on_file(app.storage_url)
    try:
        try:
            _ = app.storage
        except ConfigError as error:
            raise Fail(common.CONFIG, str(error)) from None
        yield app
    except StorageError as error:
        raise common.storage_failure(app.storage_url, error) from None
    finally:
        app.close()


def storage_url(options: Options) -> str:
    settings = options.read_config(options).settings
    if settings.storage.url:
        return settings.storage.url
    app = find_app(options)
    return app.storage_url if app else DEFAULT_URL


def namespace_of(options: Options, url: str) -> str:
    """Return the namespace of the options, else the app's, else the only one in the storage."""
    if options.namespace:
        return options.namespace
    app = find_app(options)
    return app.name if app else _only_namespace(url)


def find_app(options: Options, *, needed: bool = False) -> App | None:
    """Return the app of --app or of the configuration, imported; None where none is to be had.

    One that cannot be imported raises Fail if it is `needed` or was given by --app; else that of
    the configuration is only a hint.
    """
    path = options.read_config(options).settings.app
    if not path:
        return None
    try:
        return _import_app(path)
    except Fail as failure:
        if options.app or needed:
            raise
        common.complain([f"warning: {failure}"])
        return None


@cache
def _import_app(path: str) -> App:
    from taskqd.supervisor.cli.check import import_app

    return import_app(path)


def _only_namespace(url: str) -> str:
    from taskqd.storage import namespaces

    found = namespaces(url)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Fail(
            common.FAILED, f"storage {mask_url(url)}: holds nothing; say --namespace or --app"
        )
    names = ", ".join(found)
    raise Fail(
        common.USAGE, f"storage {mask_url(url)}: several namespaces: {names}; say --namespace"
    )


def _insist_on_file(url: str) -> None:
    """Raise Fail where the file of a SQLite storage is missing; opening it would make an empty one."""
    path = unquote(urlsplit(url).path[1:])
    if scheme_of(url) == "sqlite" and not os.path.exists(path):
        text = f"storage {url}: no such file; say --storage, --config or --app"
        raise Fail(common.UNAVAILABLE, text)


# -- names that a shell completes --------------------------------------------------------------


def complete_queue(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Complete the name of a queue, where the storage can be found and reached."""

    def names() -> list[str]:
        with open_target(options_of(context)) as storage:
            return [row.name for row in storage.queues()]

    return _matching(names, typed)


def complete_task(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Complete the name of a task, where the app is known."""

    def names() -> list[str]:
        app = find_app(options_of(context))
        return list(app.registry) if app else []

    return _matching(names, typed)


def _matching(names: Callable[[], list[str]], typed: str) -> list[str]:
    try:
        found = names()
    except Exception:
        # Whatever it is, an error in the middle of a line that is being typed helps nobody; the
        # command itself will tell it.
        return []
    return sorted(name for name in found if name.startswith(typed))

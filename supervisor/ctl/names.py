"""Names that a shell completes on the command line of taskqctl."""

from __future__ import annotations

from collections.abc import Callable

import click

from .asked import asked_of
from .target import find_app, open_target


def queues(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Complete the name of a queue, where the storage can be found and reached."""

    def names() -> list[str]:
        with open_target(asked_of(context)) as storage:
            return [row.name for row in storage.queues()]

    return _matching(names, typed)


def tasks(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Complete the name of a task, where the app is known."""

    def names() -> list[str]:
        app = find_app(asked_of(context))
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

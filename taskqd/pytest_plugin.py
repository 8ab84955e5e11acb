"""Fixtures for the tests of applications: see docs/testing.md.

pytest imports this module in every project that has taskqd installed, so it imports nothing else
until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "taskqd_app", "the app under test, as module:attribute (default: an empty one)", default=""
    )
    parser.addini(
        "taskqd_storage",
        "where taskqd_app keeps its jobs: memory://, sqlite (a file for each test) or a URL",
        default="memory://",
    )


@pytest.fixture
def taskqd_storage(request: pytest.FixtureRequest) -> str:
    """Return the URL of the storage of `taskqd_app`; override it to choose another."""
    url = str(request.config.getini("taskqd_storage"))
    if url != "sqlite":
        return url
    return f"sqlite:///{request.getfixturevalue('tmp_path')}/taskqd.db"


@pytest.fixture
def taskqd_app(request: pytest.FixtureRequest, taskqd_storage: str) -> Iterator[Any]:
    """Return the app under test (ini option `taskqd_app`) on a storage of its own."""
    from taskqd.app import App
    from taskqd.loading import load_app
    from taskqd.testing import isolated

    path = str(request.config.getini("taskqd_app"))
    with isolated(load_app(path) if path else App("test"), taskqd_storage) as app:
        yield app


@pytest.fixture
def run_pending(taskqd_app: Any) -> Callable[..., int]:
    """Return a function that runs all waiting jobs: `run_pending()`, `run_pending(within=3600)`."""
    from functools import partial

    from taskqd.testing import run_pending

    return partial(run_pending, taskqd_app)


@pytest.fixture
def taskqd_worker(taskqd_app: Any) -> Iterator[Any]:
    """Run the jobs of `taskqd_app` in a background thread until the end of the test."""
    from taskqd.testing import BackgroundWorker

    with BackgroundWorker(taskqd_app) as worker:
        yield worker

"""What holds for every test: no setting of the caller's shell, and no time limit of Hypothesis."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A slow machine is no defect; a hang is pytest-timeout's business.
settings.register_profile("taskqd", deadline=None, print_blob=True)
# Continuous integration judges a change, so it takes the same histories each time; new ones are
# looked for by everybody else, and by `make chaos`.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "taskqd")


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("TASKQD_")]:
        del os.environ[name]
    for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
        os.environ.pop(name, None)
    # Short, for sockets, and ours alone: daemons of other runs are not found.
    with tempfile.TemporaryDirectory(prefix="tq-run-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        yield

"""What a job knows of itself, and what it keeps across its attempts."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd import (
    App,
    current_job,
)
from taskqd.ids import new_id
from taskqd.immediate import run_queued


@pytest.fixture
def app() -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{new_id()}")


def test_notes_of_a_job_outlive_its_attempts(app: App) -> None:
    seen: list[Any] = []

    @app.task(retries=1)
    def resume() -> str:
        job = current_job()
        seen.append((job.checkpointed, job.once("mail"), job.once("mail")))
        job.checkpoint({"page": 7})
        job.progress(3, 10)
        if job.attempt == 1:
            raise OSError
        assert job.checkpointed == {"page": 7}
        return "done"

    result = resume()
    run_queued(app)
    assert result.get(timeout=1) == "done"
    assert seen == [(None, True, False), ({"page": 7}, False, False)]
    assert list(app.storage.leftovers()) == []

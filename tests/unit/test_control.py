"""Revocations, run in this thread on the memory storage."""

from __future__ import annotations

import pytest

from taskqd import (
    App,
    JobCancelled,
    State,
)
from taskqd.ids import new_id
from taskqd.immediate import run_queued
from tests.support.apps.sums import Tasks
from tests.support.rigs.crew import Crew


@pytest.fixture
def app() -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{new_id()}")


@pytest.fixture
def tasks(app: App) -> Tasks:
    return Tasks(app)


def test_revoked_task_runs_no_job_until_it_is_restored(app: App, tasks: Tasks) -> None:
    tasks.double.revoke()
    assert tasks.double.is_revoked()
    result = tasks.double(1)
    run_queued(app)
    with pytest.raises(JobCancelled, match="revoked"):
        result.get(timeout=1)
    assert tasks.double.restore()
    assert not tasks.double.restore()
    result = tasks.double(1)
    run_queued(app)
    assert result.get(timeout=1) == 2


def test_task_revoked_once_skips_one_job(app: App, tasks: Tasks) -> None:
    tasks.double.revoke(revoke_once=True)
    first, second = tasks.double(1), tasks.double(2)
    run_queued(app)
    assert first.state is State.CANCELLED
    assert second.get(timeout=1) == 4
    assert not tasks.double.is_revoked()


def test_id_can_be_revoked_before_it_is_enqueued(app: App, tasks: Tasks) -> None:
    assert app.revoke_by_id("order-1")
    assert app.is_revoked_by_id("order-1")
    result = tasks.double.options(id="order-1")(1)
    run_queued(app)
    assert result.state is State.CANCELLED
    assert app.features.revocations() == {}, "used up"


def test_ended_job_cannot_be_revoked_and_leaves_no_token(app: App, tasks: Tasks) -> None:
    result = tasks.double(1)
    run_queued(app)
    assert not result.revoke()
    assert app.features.revocations() == {}


def test_standing_orders_were_read_from_the_storage_for_each_job(
    app: App, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    read = app.storage.revocations
    monkeypatch.setattr(app.storage, "revocations", lambda: looks.append(1) or read())
    tasks.fail.revoke()
    crew = Crew(app)
    tasks.double.map(range(100))
    assert len(crew.drain(limit=10)) == 100
    assert len(looks) < 10
    tasks.double.revoke()
    results = tasks.double.map(range(10))
    assert {outcome.kind for outcome in crew.drain()} == {"cancel"}, "at once, though it is cached"
    assert {result.state for result in results} == {State.CANCELLED}
    tasks.double.restore()
    tasks.double(1)
    assert [outcome.kind for outcome in crew.drain()] == ["ack"]

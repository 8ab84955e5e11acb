"""Pipelines, groups, chords, locks, limits and notes, run in this thread on the memory storage."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd import (
    App,
    ConfigError,
    JobDead,
    State,
    TaskFailed,
)
from taskqd.client.composition import Failed, Skipped
from taskqd.ids import new_id
from taskqd.immediate import run_queued
from tests.support.apps.sums import Tasks


@pytest.fixture
def app() -> App:
    """An app whose jobs wait until `run_queued`."""
    return App("shop", f"memory://{new_id()}")


@pytest.fixture
def tasks(app: App) -> Tasks:
    return Tasks(app)


# -- pipelines ----------------------------------------------------------------------------------


def test_each_stage_of_a_pipeline_gets_the_value_of_the_one_before(app: App, tasks: Tasks) -> None:
    results = app.enqueue(tasks.add.s(1, 2).then(tasks.double).then(tasks.add, b=10))
    assert [r.state for r in results] == [State.QUEUED, State.SCHEDULED, State.SCHEDULED]
    run_queued(app)
    assert results.get(timeout=1) == [3, 6, 16]


def test_tuple_is_spread_and_dict_becomes_keyword_arguments(app: App) -> None:
    @app.task
    def pair() -> tuple[int, int]:
        return 1, 2

    @app.task
    def names() -> dict[str, int]:
        return {"a": 5, "b": 6}

    @app.task
    def add(a: int, b: int) -> int:
        return a * 10 + b

    @app.task
    def nothing() -> None: ...

    @app.task
    def alone() -> str:
        return "alone"

    results = [
        app.enqueue(pair.s().then(add))[-1],
        app.enqueue(names.s().then(add, b=9))[-1],
        app.enqueue(nothing.s().then(alone))[-1],
    ]
    run_queued(app)
    assert [r.get(timeout=1) for r in results] == [12, 59, "alone"]


def test_failure_of_a_stage_reaches_every_caller_after_it(app: App, tasks: Tasks) -> None:
    first, second, third = app.enqueue(
        tasks.add.s(1, 2).then(tasks.fail).then(tasks.double).error(tasks.handle)
    )
    run_queued(app)
    assert first.get(timeout=1) == 3
    for result in (second, third):
        with pytest.raises(TaskFailed, match="no such shop"):
            result.get(timeout=1)
    assert tasks.errors == ["ValueError: no such shop"]


def test_unknown_later_stage_does_not_kill_the_stages_before_it(app: App, tasks: Tasks) -> None:
    gone = app.task(name="gone")(lambda n: n)
    first, second, third = app.enqueue(tasks.add.s(1, 2).then(gone).then(tasks.double))
    del app.registry["gone"]
    run_queued(app)
    assert first.get(timeout=1) == 3
    for result in (second, third):
        with pytest.raises(JobDead, match="unknown"):
            result.get(timeout=1)


def test_retried_stage_goes_on_once(app: App, tasks: Tasks) -> None:
    runs: list[int] = []

    @app.task(retries=1)
    def flaky() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise OSError
        return 4

    results = app.enqueue(flaky.s().then(tasks.double))
    assert run_queued(app) == 3
    assert results.get(timeout=1) == [4, 8]


def test_pipeline_with_a_wrong_stage_enqueues_nothing(app: App, tasks: Tasks) -> None:
    from taskqd import BadArguments

    with pytest.raises(BadArguments):
        app.enqueue(tasks.add.s(1, 2).then(tasks.double, c=3))
    assert app.counts() == {}


# -- groups and chords --------------------------------------------------------------------------


def test_group_is_enqueued_together(app: App, tasks: Tasks) -> None:
    results = app.enqueue(app.group([tasks.add.s(n, n) for n in range(3)]))
    run_queued(app)
    assert results.get(timeout=1) == [0, 2, 4]


def test_callback_of_a_chord_gets_the_values_in_order(app: App, tasks: Tasks) -> None:
    result = app.enqueue(app.chord([tasks.add.s(n, 1) for n in range(3)], tasks.total))
    assert result.callback.state is State.SCHEDULED
    run_queued(app)
    assert result.get(timeout=1) == "1 2 3"
    assert [r.get(timeout=1) for r in result.results] == [1, 2, 3]


def test_failed_and_skipped_members_are_told_apart(app: App) -> None:
    seen: list[Any] = []
    tasks = Tasks(app)

    @app.task
    def look(values: list[Any]) -> int:
        seen.extend(values)
        return len(values)

    late = tasks.double.options(expires=-1)
    result = app.enqueue(app.chord([tasks.double.s(1), tasks.fail.s(), late.s(3)], look))
    run_queued(app)
    assert result.get(timeout=1) == 3
    value, failed, skipped = seen
    assert value == 2
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.message) == ("failed", "ValueError: no such shop")
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "expired"


def test_chords_nest_and_members_may_be_pipelines(app: App, tasks: Tasks) -> None:
    inner = app.chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total)
    pipeline = tasks.add.s(1, 2).then(tasks.double)
    result = app.enqueue(app.chord([inner, pipeline], tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == "2 4 6"


def test_failing_pipeline_counts_once_in_its_chord(app: App, tasks: Tasks) -> None:
    pipeline = tasks.fail.s().then(tasks.double).then(tasks.double)
    result = app.enqueue(app.chord([pipeline, tasks.double.s(4)], tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == "<failed: failed: ValueError: no such shop> 8"


def test_empty_chord_calls_back_at_once(app: App, tasks: Tasks) -> None:
    result = app.enqueue(app.group([]).then(tasks.total))
    run_queued(app)
    assert result.get(timeout=1) == ""


def test_payload_does_not_grow_by_member(app: App, tasks: Tasks) -> None:
    app.enqueue(app.chord([tasks.double.s(n) for n in range(200)], tasks.total))
    assert max(len(row.record) for row in app.jobs()) < 150
    run_queued(app)
    assert list(app.storage.leftovers()) == []


def test_what_is_no_call_cannot_be_composed(app: App, tasks: Tasks) -> None:
    for wrong in ([tasks.double], [3]):
        with pytest.raises(ConfigError, match="expected"):
            app.enqueue(wrong)
        with pytest.raises(ConfigError, match="expected"):
            app.group(wrong)


def test_a_unique_member_that_was_not_enqueued_does_not_block_its_chord() -> None:
    app = App("twins", f"memory://{new_id()}")

    @app.task(name="once", unique="args")
    def once(n: int) -> int:
        return n

    @app.task(name="shown")
    def shown(values: list[Any]) -> str:
        return repr(values)

    chord = app.enqueue(app.chord([once.s(1), once.s(1), once.s(2)], shown))
    twins = app.enqueue([once.s(1), once.s(3)])
    assert twins[0].id == chord.results[0].id
    run_queued(app)
    assert chord.get(timeout=0) == "[1, <skipped: skipped>, 2]"
    assert [result.get(timeout=0) for result in twins] == [1, 3]

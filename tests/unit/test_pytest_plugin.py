"""The fixtures that applications use in their tests."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from taskqd import App, RetryTask, current_job
from taskqd.testing import BackgroundWorker, NeverEnds, isolated, run_pending

pytest_plugins = ["pytester"]
PAGE = Path(__file__).parents[2] / "docs/testing.md"


def run(pytester: pytest.Pytester, passed: int, **files: str) -> None:
    pytester.makepyfile(**files)
    # Building a wheel in the checkout makes it known there, in the midst of a run.
    known = any(entry.value == "taskqd.pytest_plugin" for entry in entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "taskqd.pytest_plugin"]
    ran = pytester.runpytest_inprocess(*plugin, "-p", "no:cacheprovider", "-p", "no:valkey")
    ran.assert_outcomes(passed=passed)


def test_the_page_on_testing_passes_as_it_stands(pytester: pytest.Pytester) -> None:
    tasks, override = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    pytester.makeini("[pytest]\ntaskqd_app = test_shop:app\n")
    run(pytester, 3, test_shop=tasks)
    pytester.makeini("[pytest]\ntaskqd_storage = sqlite\n")
    run(pytester, 3, test_shop=tasks + override)


def test_without_options_the_app_is_an_empty_one_for_each_test(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        2,
        test_empty="""
            import pytest

            @pytest.mark.parametrize("n", [1, 2])
            def test_one(n, taskqd_app, run_pending, taskqd_worker):
                @taskqd_app.task(name="same")
                def double(n: int) -> int:
                    return 2 * n

                assert taskqd_app.counts() == {}
                assert double(n).get(timeout=10) == 2 * n
        """,
    )


def test_a_forgotten_ini_option_was_told_as_no_job_only(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        2,
        test_forgotten="""
            import pytest
            from taskqd.errors import ConfigError

            def test_fixture(run_pending):
                with pytest.raises(ConfigError, match='taskqd_app = "shop.tasks:app"'):
                    run_pending()

            def test_worker(taskqd_worker):
                with pytest.raises(ConfigError, match="has no task"):
                    taskqd_worker.wait_idle()
        """,
    )


def test_the_plugin_imports_nothing_until_a_fixture_is_asked_for() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import taskqd.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["taskqd", "taskqd.pytest_plugin"]


def test_an_app_has_its_own_storage_again_after_the_test() -> None:
    app = App("mine", "memory://before", immediate=True)

    @app.task
    def echo(n: int) -> int:
        return n

    with isolated(app):
        waiting = echo(1)
        assert waiting.state == "queued"
        assert run_pending(app) == 1
        assert waiting.get(timeout=0) == 1
    assert app.storage_url == "memory://before"
    assert echo(2).is_ready()


def test_jobs_of_the_future_run_in_the_order_of_their_times() -> None:
    app = App("time", "memory://")
    ran: list[str] = []

    @app.task(retries=1, retry_delay=100, retry_jitter=False)
    def step(name: str) -> None:
        ran.append(name)
        if name == "fails" and current_job().failures == 0:
            raise ValueError(name)
        if name == "asks" and ran.count(name) == 1:
            raise RetryTask(delay=30)

    @app.task
    def chain() -> None:
        ran.append("chain")
        step.options(delay=50, queue="unheard-of")("link")

    with isolated(app):
        step.schedule(("late",), delay=3600)
        step.schedule(("fails",), delay=60)
        step.schedule(("asks",), delay=120)
        chain.schedule(delay=100)
        assert run_pending(app) == 0
        assert run_pending(app, within=timedelta(minutes=10)) == 6
        # 60, 100, 120, 120 + 30, 100 + 50, 60 + 100
        assert ran[:3] == ["fails", "chain", "asks"]
        assert sorted(ran[3:5]) == ["asks", "link"]
        assert ran[5:] == ["fails"]


def test_jobs_that_enqueue_jobs_for_ever_are_an_error_and_no_hang() -> None:
    app = App("ever", "memory://")

    @app.task
    def again() -> None:
        again()

    with isolated(app):
        again()
        with pytest.raises(NeverEnds, match="50 jobs have run"):
            run_pending(app, jobs_max=50)


def test_a_background_worker_runs_delayed_jobs_too_and_says_when_it_cannot_stop() -> None:
    app = App("back", "memory://")
    gate = threading.Event()

    @app.task
    def hold() -> bool:
        return gate.wait(20)

    with isolated(app):
        worker = BackgroundWorker(app)
        with worker:
            assert hold.schedule(delay=0.05)
            held = hold()
            with pytest.raises(NeverEnds, match="still wait or run"):
                worker.wait_idle(timeout=0.05)
            with pytest.raises(NeverEnds, match="still runs a job"):
                worker.stop(timeout=0.05)
            gate.set()
            assert held.get(timeout=10)

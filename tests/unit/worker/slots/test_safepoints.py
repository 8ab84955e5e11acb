"""Where a job's own code begins: what is ours, what calls a user's function, whose stack is kept."""

from __future__ import annotations

import ast
import inspect
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import taskqd
from taskqd import App
from taskqd.clock import monotonic_ns
from taskqd.execution import runner as runner_module
from taskqd.execution.outcomes import Outcomes
from taskqd.execution.runner import ENTRANCES, Runner
from taskqd.execution.task_lock import TaskLock
from taskqd.ipc.messages import Drain, Drained, Interrupt
from taskqd.jobs.exception_text import OUR_FOLDER
from taskqd.logs.setup import configure
from taskqd.settings import LimitSettings
from taskqd.worker.slots import interrupts
from taskqd.worker.slots.base import Handover
from tests.support.rigs.worker_rig import WorkerRig
from tests.support.waiting import HANG_S, wait_until

KINDS: dict[str, dict[str, int]] = {
    "process": {},
    "thread": {"threads": 2},
    "asyncio": {"coroutines": 2},
}


def entrances(source: str) -> set[str]:
    """Return the functions of a module that call a task's function themselves."""
    return {
        function.name
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".function")
    }


def test_every_entrance_to_a_users_function_is_declared() -> None:
    execution = Path(runner_module.__file__).parent
    found = {name for file in execution.rglob("*.py") for name in entrances(file.read_text())}
    assert found == {code.co_name for code in ENTRANCES}


def test_an_entrance_that_is_not_declared_is_noticed() -> None:
    forgotten = "def by_the_window(opened):\n    return opened.task.function(1)\n"
    assert entrances(inspect.getsource(runner_module) + forgotten) == {
        *(code.co_name for code in ENTRANCES),
        "by_the_window",
    }


@pytest.mark.parametrize(
    "code",
    [
        interrupts.Interrupts.deliver.__code__,
        Handover.serve.__code__,
        Runner.run.__code__,
        Outcomes.done.__code__,
        TaskLock.__enter__.__code__,
    ],
    ids=lambda code: code.co_qualname,
)
def test_code_of_the_slots_and_of_execution_is_ours(code: CodeType) -> None:
    assert code.co_filename.startswith(OUR_FOLDER)


def test_a_users_code_beside_the_package_is_not_ours() -> None:
    assert not __file__.startswith(OUR_FOLDER)
    assert Path(OUR_FOLDER).samefile(Path(taskqd.__file__).parent)
    assert not f"{OUR_FOLDER.rstrip('/')}_app/tasks.py".startswith(OUR_FOLDER)


class Late:
    """An app with one task that outlasts its timeout, and what holds it up."""

    def __init__(self) -> None:
        self.app = App("late", f"memory://{uuid.uuid4().hex}")
        self.gate = threading.Event()
        self.began = threading.Event()

    def hang(self) -> None:
        self.began.set()
        self.gate.wait(HANG_S)

    def enqueue(self, *, is_async: bool) -> Any:
        if is_async:

            @self.app.task(name="late", timeout=0.01, retries=0)
            async def late() -> None:
                self.hang()

            return late()

        @self.app.task(name="late", timeout=0.01, retries=0)
        def plain() -> None:
            self.hang()

        return plain()


@pytest.fixture
def late() -> Iterator[Late]:
    made = Late()
    yield made
    made.gate.set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_the_stack_of_a_late_job_was_lost_for_plain_functions_in_asyncio_workers(
    late: Late, kind: str, is_async: bool
) -> None:
    result = late.enqueue(is_async=is_async)
    runner = Runner(late.app, LimitSettings(), configure(role="test", level="critical"))
    with WorkerRig(late.app.storage, jobs=runner, queues=("default",), **KINDS[kind]) as rig:
        assert late.began.wait(HANG_S)
        wait_until(lambda: any(0 < v.deadline_ns < monotonic_ns() for v in rig.row.busy()))
        rig.tell(Drain(60))
        rig.tell(Interrupt())
        rig.hear(Drained)
        late.gate.set()
    with WorkerRig(
        late.app.storage, jobs=runner, queues=("default",)
    ):  # who opens it next buries it
        wait_until(lambda: result.info()["state"] == "dead")
    info = result.info()
    assert (info["state"], info["reason"]) == ("dead", "timeout")
    assert ("in late" if is_async else "in plain") in info["traceback"]
    assert "in hang" in info["traceback"]
    if kind == "asyncio" or not is_async:
        assert OUR_FOLDER not in info["traceback"], "it begins with the job's own code"

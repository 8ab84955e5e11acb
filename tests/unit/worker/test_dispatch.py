"""Every message of the master's has somebody who acts on it; what a process does not know is logged."""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
import uuid
from collections.abc import Callable
from pathlib import Path

from taskqd.ipc import messages
from taskqd.logs.setup import configure
from taskqd.storage.memory import MemoryStorage
from taskqd.worker.leasing.loop import WorkerLoop
from taskqd.worker.scheduler.scheduler import Scheduler
from taskqd.worker.zygote import __main__ as zygote
from tests.support.rigs.worker_rig import WorkerRig
from tests.support.waiting import wait_until


def cases(function: Callable[..., object]) -> set[str]:
    """Return the messages that a function's `match` names."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        ast.unparse(node.cls).split(".")[-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.MatchClass)
    }


def named(union: object) -> set[str]:
    return {member.__name__ for member in typing.get_args(union)}


def test_every_message_to_a_child_is_acted_on_by_a_worker_or_the_scheduler() -> None:
    worker, scheduler = cases(WorkerLoop._hear), cases(Scheduler._hear)
    assert worker | scheduler == named(messages.ToChild)
    assert worker == {"Drain", "Interrupt", "Quiet", "Resume", "Reopen"}
    assert {"Drain", "Reopen"} == worker & scheduler, "what the master tells both"


def test_the_zygote_forks_for_one_message_and_exits_at_the_other() -> None:
    assert named(messages.ToZygote) == {"Spawn", "Exit"}
    assert "isinstance(message, Exit)" in inspect.getsource(zygote.serve)


def test_a_worker_logs_a_message_that_is_not_for_it(tmp_path: Path) -> None:
    file = tmp_path / "log"
    out = configure(role="worker", level="warning", file=str(file), format="json")
    storage = MemoryStorage("test", world=uuid.uuid4().hex)
    with WorkerRig(storage, out=out) as rig:
        rig.hear(messages.Ready)
        rig.tell(messages.Retire())
        rig.tell(messages.Drain(1.0))
        rig.hear(messages.Drained)
        out.flush()
        wait_until(lambda: "message.ignored" in file.read_text())
    assert '"kind":"Retire"' in file.read_text().replace(" ", "")

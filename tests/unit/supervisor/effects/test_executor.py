"""Every action that a plan can ask for is carried out by one method that takes what it brings."""

from __future__ import annotations

from typing import Any, get_args
from unittest.mock import create_autospec

import pytest

from taskqd.supervisor.effects.executor import Executor
from taskqd.supervisor.effects.reaper import Reaper
from taskqd.supervisor.effects.recoveries import Recoveries
from taskqd.supervisor.effects.reloader import Reloader
from taskqd.supervisor.effects.spawner import Spawner
from taskqd.supervisor.effects.stopper import Stopper
from taskqd.supervisor.state import actions

PARTS = {
    "_spawner": Spawner,
    "_reloader": Reloader,
    "_stopper": Stopper,
    "_reaper": Reaper,
    "_recoveries": Recoveries,
}


def example(kind: type[Any]) -> Any:
    return kind(*range(len(kind._fields)))


def calls_of(carry_out: Any, owner: Any, action: Any) -> list[Any]:
    """Return the calls that one action leads to; a wrong number of arguments raises TypeError."""
    carry_out(owner, action)
    parts = [getattr(owner, name) for name in PARTS if isinstance(owner, Executor)]
    return [call for one in (owner, *parts) for call in one.method_calls]


@pytest.mark.parametrize("kind", get_args(actions.Action), ids=lambda kind: kind.__name__)
def test_every_action_is_carried_out_once(kind: type[Any]) -> None:
    executor = create_autospec(Executor, instance=True)
    for name, part in PARTS.items():
        setattr(executor, name, create_autospec(part, instance=True))
    (call,) = {
        call[0].rpartition(".")[2]: call for call in calls_of(Executor.do, executor, example(kind))
    }
    assert call


@pytest.mark.parametrize("kind", get_args(actions.ReloadAction), ids=lambda kind: kind.__name__)
def test_every_action_of_a_reload_is_carried_out_once(kind: type[Any]) -> None:
    reloader = create_autospec(Reloader, instance=True)
    assert len(calls_of(Reloader.do, reloader, example(kind))) == 1


def test_what_is_no_action_is_refused() -> None:
    executor = create_autospec(Executor, instance=True)
    executor._reloader = create_autospec(Reloader, instance=True)
    executor._reloader.do = lambda action: Reloader.do(executor._reloader, action)
    with pytest.raises(AssertionError):
        Executor.do(executor, ("no", "action"))  # type: ignore[arg-type]

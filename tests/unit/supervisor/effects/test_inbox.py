"""What children and zygotes say, and what follows where it is no message of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from taskqd.ipc import messages
from taskqd.ipc.messages import FromChild, FromZygote
from taskqd.supervisor.effects.inbox import Inbox
from taskqd.supervisor.effects.outages import Outages
from taskqd.supervisor.effects.recoveries import Recoveries
from taskqd.supervisor.effects.reloader import Reloader
from taskqd.supervisor.effects.spawner import Spawner
from taskqd.supervisor.state.lifecycle import ChildState
from tests.support.rigs.masters import Said, context_of


@pytest.fixture
def context() -> Iterator[Any]:
    with context_of(workers=1) as made:
        yield made


def inbox_of(context: Any) -> Inbox:
    spawner = Spawner(context)
    reloader = Reloader(context, spawner, None)
    return Inbox(context, spawner, reloader, Recoveries(context), Outages(context))


def example(kind: type[Any]) -> Any:
    """Return a message with a value of its type in each field that has no default."""
    plain = {"int": 0, "float": 0.0, "str": "", "bool": False}
    fields = {
        field.name: plain.get(getattr(field.type, "__name__", ""), ())
        for field in msgspec.structs.fields(kind)
        if field.required
    }
    return kind(**fields)


@pytest.mark.parametrize("kind", get_args(FromChild), ids=lambda kind: kind.__name__)
def test_every_message_of_a_child_is_taken_in(context: Any, kind: type[Any]) -> None:
    said = Said(context, context.fleet.workers[0].child.worker_id)
    report = inbox_of(context).listen(said.by_child(example(kind)))
    assert report.anything
    assert not context.fleet.workers[0].child.kill.reason


@pytest.mark.parametrize("kind", get_args(FromZygote), ids=lambda kind: kind.__name__)
def test_every_message_of_a_zygote_is_taken_in(context: Any, kind: type[Any]) -> None:
    said = Said(context, context.fleet.zygotes[0].key)
    report = inbox_of(context).listen(said.by_zygote(example(kind)))
    assert report.anything
    assert not context.fleet.zygotes[0].killed_for


def test_a_child_that_says_what_only_a_zygote_may_say_is_killed(context: Any) -> None:
    child = context.fleet.workers[0].child
    said = Said(context, child.worker_id)
    inbox_of(context).listen(said.by_zygote(messages.Forked("n.9", 7)))
    assert child.state is ChildState.DYING
    assert "Forked is not for it to say" in child.kill.reason


def test_a_zygote_that_says_what_only_a_child_may_say_is_killed(context: Any) -> None:
    zygote = context.fleet.zygotes[0]
    inbox_of(context).listen(Said(context, zygote.key).by_child(messages.Booted(7)))
    assert "Booted is not for it to say" in zygote.killed_for


def test_a_child_that_could_not_be_forked_is_returned_and_not_accounted_for(context: Any) -> None:
    child = context.fleet.workers[0].child
    said = Said(context, context.fleet.zygotes[0].key)
    report = inbox_of(context).listen(said.by_zygote(messages.ForkFailed(child.worker_id, "no")))
    assert [gone.child for gone in report.gone] == [child]
    assert child.alive


def test_a_message_can_be_sent_while_another_waits_and_nothing_is_taken_in(context: Any) -> None:
    child = context.fleet.workers[0].child
    said = Said(context, child.worker_id)
    said.by_child(messages.Empty())
    said.hang_up()
    context.connections.tell(child.worker_id, messages.Quiet())
    assert child.empty_at is None
    assert [ready.key for ready in context.connections.take_ready()] == [child.worker_id]

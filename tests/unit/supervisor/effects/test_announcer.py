"""What is told outside follows from what is, each thing once."""

from __future__ import annotations

from unittest.mock import create_autospec

from taskqd.logs import events
from taskqd.supervisor.effects.announcer import Announcer
from taskqd.supervisor.host.systemd import Notifier
from taskqd.supervisor.state.reload import Reload
from tests.support.rigs.fleets import NOW, stopping
from tests.support.rigs.masters import context_of

ONCE = {"ready", "reloading", "stopping"}


def told(notifier: Notifier) -> list[str]:
    return [call[0] for call in notifier.method_calls if call[0] in ONCE]  # type: ignore[attr-defined]


def test_ready_reloading_and_stopping_are_told_once_each() -> None:
    notifier = create_autospec(Notifier, instance=True, active=False)
    with context_of() as context:
        announcer, fleet = Announcer(context, notifier), context.fleet
        for _ in range(2):
            announcer.tell_ready()
            announcer.show()
        assert told(notifier) == ["ready"]
        fleet.reload, fleet.reloads_begun = Reload(1, "SIGHUP", 2, NOW), 1
        for _ in range(2):
            announcer.show()
        fleet.reload = None
        for _ in range(2):
            announcer.show()
        assert told(notifier) == ["ready", "reloading", "ready"]
        stopping(fleet)
        for _ in range(2):
            announcer.show()
        assert told(notifier) == ["ready", "reloading", "ready", "stopping"]


def test_a_reload_that_fails_as_it_begins_is_told_with_its_end() -> None:
    notifier = create_autospec(Notifier, instance=True, active=False)
    with context_of() as context:
        announcer = Announcer(context, notifier)
        context.fleet.reloads_begun = 1
        announcer.show()
        assert told(notifier) == ["reloading", "ready"]


def test_a_stop_during_a_reload_is_no_readiness() -> None:
    notifier = create_autospec(Notifier, instance=True, active=False)
    with context_of() as context:
        announcer = Announcer(context, notifier)
        context.fleet.reload, context.fleet.reloads_begun = Reload(1, "SIGHUP", 2, NOW), 1
        announcer.show()
        context.fleet.reload = None
        stopping(context.fleet)
        announcer.show()
        assert told(notifier) == ["reloading", "stopping"]


def test_master_ready_waits_for_every_worker_and_is_logged_once() -> None:
    notifier = create_autospec(Notifier, instance=True, active=False)
    with context_of(workers=2) as context:
        announcer = Announcer(context, notifier)
        second = context.fleet.workers[1]
        child, second.child = second.child, None
        announcer.tell_ready()
        assert not context.log.emit.called  # type: ignore[attr-defined]
        second.child = child
        for _ in range(2):
            announcer.tell_ready()
        (call,) = context.log.emit.call_args_list  # type: ignore[attr-defined]
        assert call.args == (events.MASTER_READY,)

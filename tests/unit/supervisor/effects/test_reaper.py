"""A dead child is heard out, judged, and its post and jobs are seen to."""

from __future__ import annotations

from typing import Any

import pytest

from taskqd.ipc import board, messages
from taskqd.supervisor.effects.inbox import Gone, Inbox
from taskqd.supervisor.effects.outages import Outages
from taskqd.supervisor.effects.reaper import Reaper
from taskqd.supervisor.effects.recoveries import Recoveries
from taskqd.supervisor.effects.reloader import Reloader
from taskqd.supervisor.effects.spawner import Spawner
from taskqd.supervisor.host.syscalls import Death
from taskqd.supervisor.policy.verdict import UNSETTLED
from taskqd.supervisor.state import timeline
from taskqd.supervisor.state.fleet import Stop
from tests.support.rigs.fleets import NOW, worker
from tests.support.rigs.masters import Said, context_of


def reaper_of(context: Any) -> Reaper:
    spawner, recoveries = Spawner(context), Recoveries(context)
    inbox = Inbox(context, spawner, Reloader(context, spawner, None), recoveries, Outages(context))
    return Reaper(context, inbox, recoveries)


def test_last_words_are_heard_though_another_process_holds_the_channel_open() -> None:
    with context_of() as context:
        child = worker(context.fleet)
        Said(context, child.worker_id).by_child(messages.Drained())
        reaper_of(context)._hear_out(child.worker_id)
        assert child.drain.done


@pytest.mark.parametrize("death", [Death(7, 0, 0, 0.0), None])
def test_a_newborn_that_was_told_to_go_was_said_to_have_crashed(death: Death | None) -> None:
    """It had drained and ended before its zygote told of its pid, which alone was heard then."""
    with context_of() as context:
        child = worker(context.fleet)
        Said(context, child.worker_id).by_child(messages.Drained())
        reaper_of(context).account_for_all([Gone(child, death)])
        assert context.totals.deaths == {"drained": 1}
        assert context.fleet.workers[0].failures == 0


@pytest.mark.parametrize("told", ["by its master", "by somebody else"])
def test_a_worker_that_left_without_its_storage_made_suspects_of_its_jobs(told: str) -> None:
    with context_of() as context:
        child = worker(context.fleet)
        if told == "by its master":
            child.drain.timeline = timeline.begin(NOW, 10.0)
        else:
            child.storage_error = "connection refused"
        context.board.row(0).begin(0, 7, 1, 0, "job-7", "shop.slow")
        reaper_of(context).account_for(child, Death(child.pid, UNSETTLED, 0, 0.0))
        order = context.fleet.pending_recoveries[child.worker_id].order
        assert (order.running, order.how) == ((7,), "interrupted")
        assert context.totals.deaths == {"unsettled": 1}
        assert context.fleet.workers[0].failures == 0


def test_a_scheduler_that_waited_for_a_silent_storage_at_the_end_was_said_to_have_crashed() -> None:
    with context_of() as context:
        scheduler = context.fleet.scheduler.child
        assert scheduler is not None
        context.fleet.stop = Stop(timeline.begin(NOW, 10.0), "SIGTERM", 0)
        context.fleet.stop.retired = True
        reaper_of(context).account_for(scheduler, Death(scheduler.pid, -9, 0, 0.0))
        assert context.totals.deaths == {"killed": 1}
        assert context.fleet.scheduler.failures == 0


def test_what_a_worker_ran_that_died_just_before_its_master_was_not_counted() -> None:
    """Its row was cleared, and what had stood there was told to the scheduler in a later step."""
    with context_of() as context:
        child, scheduler = worker(context.fleet), context.fleet.scheduler.child
        assert scheduler is not None
        said = Said(context, scheduler.worker_id).listening()
        context.board.row(0).begin(0, 7, 1, 0, "job-7", "shop.slow")
        reaper_of(context).account_for(child, Death(child.pid, -9, 0, 0.0))
        assert context.board.row(0).busy() == []
        (told,) = said.heard()
        assert isinstance(told, messages.RecoverWorker)
        assert (told.worker_id, told.running, told.how) == (child.worker_id, (7,), "orphaned")


def test_a_worker_that_died_with_a_job_leaves_a_recovery_and_an_empty_post() -> None:
    with context_of() as context:
        child, post = worker(context.fleet), context.fleet.workers[0]
        row = context.board.row(0)
        row.set(board.DONE, 3)
        row.begin(0, 7, 1, 0, "job-7", "shop.slow")
        reaper_of(context).account_for(child, Death(child.pid, -9, 0, 0.0))
        order = context.fleet.pending_recoveries[child.worker_id].order
        assert (order.running, order.how) == ((7,), "orphaned")
        assert "SIGKILL" in order.verdict
        assert post.child is None
        assert post.spawn_at_s == NOW
        assert context.totals.jobs["done"] == 3
        assert not row.busy()


def test_a_drained_worker_leaves_nothing_to_recover() -> None:
    with context_of() as context:
        child = worker(context.fleet)
        child.drain.done = True
        reaper_of(context).account_for(child, Death(child.pid, 0, 0, 0.0))
        assert not context.fleet.pending_recoveries
        assert context.totals.deaths == {"drained": 1}

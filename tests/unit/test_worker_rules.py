"""The worker's pure decisions: read-ahead, settlement, back-off, order of queues, suspects, ticks."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from taskqd.errors import StorageRefused, StorageUnavailable
from taskqd.jobs.job import Outcome
from taskqd.storage.base import Node, NodeRow
from taskqd.worker.connection.outage import Backoff, Outage, loss
from taskqd.worker.leasing.ledger import FLUSH_COUNT, FLUSH_S, SLICE_S, LeaseLedger
from taskqd.worker.leasing.prefetch import AHEAD_MAX, Prefetch
from taskqd.worker.leasing.quarantine import PATIENCE_S, Quarantine
from taskqd.worker.leasing.queue_order import QueueOrder
from taskqd.worker.scheduler import predecessors
from taskqd.worker.scheduler.due_ticks import ALL_MAX, COUNT_MAX, LATE_MS, firing, floor

MS = 1_000_000


def fed(capacity: int, mean_ms: float, rounds: int = 20) -> Prefetch:
    ahead = Prefetch(capacity)
    for _ in range(rounds):
        ahead.measured(10, int(10 * mean_ms * MS))
    return ahead


# -- read-ahead ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean_ms", "expected"),
    [(0.001, AHEAD_MAX), (0.5, 10), (1, 5), (5, 1), (9, 1), (20, 0), (1000, 0)],
)
def test_stock_is_five_milliseconds_of_measured_work(mean_ms: float, expected: int) -> None:
    assert fed(1, mean_ms).ahead == expected


def test_stock_grows_with_the_slots_that_use_it_up() -> None:
    assert fed(10, 1).ahead == 50


def test_read_ahead_begins_with_one_and_doubles() -> None:
    ahead = Prefetch(1)
    grown = []
    assert ahead.limit(0) == 1
    for _ in range(9):
        ahead.measured(1, 1)
        grown.append(ahead.ahead)
    assert grown == [1, 2, 4, 8, 16, 32, 64, 128, 128]


def test_read_ahead_falls_at_once_when_jobs_turn_long() -> None:
    ahead = fed(1, 0.01)
    ahead.stalled()
    assert ahead.limit(1) == 0
    assert ahead.limit(0) == 1


def test_more_is_asked_for_when_half_is_left() -> None:
    ahead = fed(1, 0.01)
    assert not ahead.worth_asking(1 + 65)
    assert ahead.worth_asking(1 + 64)
    assert ahead.limit(1 + 64) == 64


def test_a_free_slot_is_always_worth_asking_for() -> None:
    ahead = Prefetch(10)
    assert ahead.worth_asking(9)
    assert ahead.limit(9) == 1


# -- stock --------------------------------------------------------------------------------------


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(str(number), "q", number, "ack") for number in range(count)]


def test_outcomes_are_settled_in_company_or_after_five_milliseconds() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(80, 0.0)
    ledger.finished(outcomes(3), 1.0)
    assert not ledger.flush_due(1.0 + FLUSH_S / 2)
    assert ledger.flush_due(1.0 + FLUSH_S)
    assert ledger.next_s(0) == 1.0 + FLUSH_S
    ledger.finished(outcomes(FLUSH_COUNT - 3), 1.001)
    assert ledger.flush_due(1.001)
    assert len(ledger.sending()) == FLUSH_COUNT
    ledger.answered()
    assert not ledger.flush_due(9.0)


def test_what_was_sent_without_an_answer_is_repeated_alone() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(5, 0.0)
    ledger.finished(outcomes(2), 1.0)
    sent = ledger.sending()
    ledger.finished(outcomes(3), 1.1)
    assert ledger.sending() == sent
    ledger.answered()
    assert len(ledger.sending()) == 3
    ledger.answered()
    assert ledger.sending() == []


def test_outcomes_are_settled_at_once_when_the_slots_are_empty() -> None:
    ledger = LeaseLedger(2)
    ledger.handed(2, 0.0)
    ledger.finished(outcomes(1), 0.0)
    assert not ledger.flush_due(0.0)
    ledger.finished(outcomes(1), 0.0)
    assert ledger.flush_due(0.0)


def test_unstarted_jobs_behind_a_long_one_are_noticed() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(5, 10.0)
    assert not ledger.stalled(4, 10.0 + SLICE_S / 2)
    assert ledger.stalled(4, 10.0 + SLICE_S)
    assert not ledger.stalled(0, 10.0 + SLICE_S)
    assert ledger.next_s(4) == 10.0 + SLICE_S
    ledger.finished(outcomes(1), 10.005)
    assert not ledger.stalled(3, 10.0 + SLICE_S)


def test_job_that_waits_for_a_cpu_only_is_not_given_back() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(1, 10.0)
    assert not ledger.stalled(1, 11.0), "the slot is free: it is about to start"
    assert ledger.next_s(1) == math.inf, "and there is nothing to look for"


def test_worker_that_gave_everything_back_asks_again() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(2, 10.0)
    ledger.dry = True
    ledger.withdrawn(1)
    assert ledger.dry, "its slot is busy"
    ledger.withdrawn(1)
    assert not ledger.dry
    assert ledger.limit() == 1


def test_nothing_is_asked_for_beside_a_suspect_or_after_an_empty_turn() -> None:
    ledger = LeaseLedger(4)
    assert ledger.limit() == 4
    ledger.dry = True
    assert ledger.limit() == 0
    ledger.dry = False
    ledger.handed(1, 0.0, alone=True)
    assert ledger.limit() == 0
    ledger.finished(outcomes(1), 0.0)
    assert ledger.limit() == 4


def test_a_suspect_that_is_given_back_leaves_the_worker_free() -> None:
    ledger = LeaseLedger(4)
    ledger.handed(1, 0.0, alone=True)
    assert ledger.lone
    ledger.withdrawn(1)
    assert not ledger.lone
    ledger.handed(1, 0.0)
    assert not ledger.lone


# -- waiting and order --------------------------------------------------------------------------


def test_backoff_doubles_up_to_its_cap_within_its_jitter() -> None:
    highest = Backoff(lambda low, high: high, 0.05, 2.0)
    lowest = Backoff(lambda low, high: low, 0.05, 2.0)
    assert [highest.next_s() for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert [lowest.next_s() for _ in range(3)] == [0.025, 0.05, 0.1]
    highest.reset()
    assert highest.next_s() == 0.05


def test_an_outage_begins_once_and_goes_on_backing_off_until_it_is_steady() -> None:
    outage = Outage(lambda low, high: high)
    assert outage.failed(10.0)
    assert not outage.failed(11.0)
    assert outage.retry_at_s == 11.1
    assert outage.lasted_s(15.0) == 5.0
    outage.over()
    assert not outage.lasts
    assert outage.failed(20.0)
    assert outage.retry_at_s == 20.2
    outage.steady()
    outage.failed(30.0)
    assert outage.retry_at_s == 30.05


def test_an_outage_kept_its_first_cause_when_the_password_had_changed() -> None:
    outage = Outage(lambda low, high: high)
    assert outage.failed(10.0, "the connection broke")
    assert outage.failed(11.0, "NOAUTH")
    assert not outage.failed(12.0, "NOAUTH")
    assert outage.lasted_s(15.0) == 5.0
    assert loss(StorageRefused("NOAUTH")).refused
    assert not loss(StorageUnavailable("away")).refused


def test_queues_without_weights_are_asked_in_their_order() -> None:
    order = QueueOrder(("b", "a"), {}, random.random)
    assert {order.next() for _ in range(10)} == {("b", "a")}


def test_weighted_queues_go_first_in_proportion_and_none_is_left_out() -> None:
    order = QueueOrder(("heavy", "light"), {"heavy": 4}, random.Random(1).random)
    draws = [order.next() for _ in range(5000)]
    assert all(sorted(draw) == ["heavy", "light"] for draw in draws)
    first = sum(draw[0] == "heavy" for draw in draws) / len(draws)
    assert 0.77 < first < 0.83


# -- suspects -----------------------------------------------------------------------------------


def test_a_worker_runs_empty_for_a_suspect_and_gives_up_for_a_while_if_it_cannot() -> None:
    quarantine = Quarantine()
    quarantine.seen(1, 100.0)
    assert quarantine.running_empty(100.0 + PATIENCE_S / 2)
    assert not quarantine.running_empty(100.0 + PATIENCE_S)
    quarantine.seen(1, 100.0 + PATIENCE_S * 1.5)
    assert not quarantine.running_empty(100.0 + PATIENCE_S * 1.5)
    quarantine.seen(1, 100.0 + PATIENCE_S * 2)
    assert quarantine.running_empty(100.0 + PATIENCE_S * 3.9)


def test_without_suspects_leasing_goes_on() -> None:
    quarantine = Quarantine()
    quarantine.seen(2, 5.0)
    quarantine.seen(0, 5.1)
    assert not quarantine.running_empty(5.2)


# -- ticks --------------------------------------------------------------------------------------

MINUTE = 60_000
NOON = 1_700_000_000_000 // MINUTE * MINUTE


def every(period_ms: int):
    return lambda ms: (ms // period_ms + 1) * period_ms


def test_a_tick_fires_when_its_time_has_come() -> None:
    plan = firing(every(MINUTE), NOON, NOON + MINUTE, "skip")
    assert plan.ticks == [NOON + MINUTE]
    assert plan.missed == 0
    assert firing(every(MINUTE), NOON, NOON + MINUTE - 1, "skip").ticks == []


def test_the_cursor_never_goes_back_with_the_clock() -> None:
    assert firing(every(MINUTE), NOON, NOON - 3600_000, "all").cursor_ms == NOON


def test_ticks_that_are_a_little_late_all_fire_whatever_the_policy() -> None:
    plan = firing(every(1000), NOON, NOON + 5000, "skip")
    assert plan.ticks == [NOON + second * 1000 for second in range(1, 6)]


@pytest.mark.parametrize(
    ("policy", "late", "missed"), [("skip", 0, 10), ("once", 1, 9), ("all", 10, 0)]
)
def test_missed_ticks_follow_the_policy(policy: str, late: int, missed: int) -> None:
    down_ms = 10 * MINUTE + LATE_MS
    plan = firing(every(MINUTE), NOON, NOON + down_ms, policy)
    assert plan.ticks[-1] == NOON + down_ms
    assert len(plan.ticks) - 1 == late
    assert plan.missed == missed


def test_once_fires_the_newest_missed_tick_even_after_a_year() -> None:
    year = 366 * 86_400_000
    plan = firing(every(1000 * 3600), NOON, NOON + year, "once")
    late = [tick for tick in plan.ticks if tick <= NOON + year - LATE_MS]
    assert late == [(NOON + year - LATE_MS) // 3_600_000 * 3_600_000]
    assert plan.missed == COUNT_MAX - 1


def test_all_catches_up_piece_by_piece_without_a_gap() -> None:
    now = NOON + 2500 * 1000 + LATE_MS
    cursor, fired = NOON, []
    for _ in itertools.count():
        plan = firing(every(1000), cursor, now, "all")
        fired += plan.ticks
        cursor = plan.cursor_ms
        if cursor == now:
            break
    assert fired == [NOON + second * 1000 for second in range(1, 2561)]


def test_ticks_that_are_closer_than_one_look_takes_are_not_skipped() -> None:
    plan = firing(every(10), NOON, NOON + MINUTE, "skip")
    assert plan.cursor_ms == plan.ticks[-1] == NOON + COUNT_MAX * 10
    assert firing(every(10), plan.cursor_ms, NOON + MINUTE, "skip").ticks[0] == plan.cursor_ms + 10


@pytest.mark.parametrize("period_ms", [1000, MINUTE])
def test_all_is_bounded_to_the_newest_ticks(period_ms: int) -> None:
    now = NOON + (ALL_MAX + 500) * period_ms + LATE_MS
    cursor, dropped = floor(every(period_ms), NOON, now)
    assert cursor == NOON + 500 * period_ms
    assert dropped == 500
    assert floor(every(period_ms), cursor, now) == (cursor, 0)


def test_a_rule_that_has_no_more_ticks_fires_none() -> None:
    assert firing(lambda ms: None, NOON, NOON + 10 * MINUTE, "all").ticks == []


# -- predecessors -------------------------------------------------------------------------------


def row(id: str, **fields: object) -> NodeRow:
    facts = {"name": "shop@box", "host": "boot/1", "pid": 10, "pid_started": 5, **fields}
    return NodeRow(Node(id, **facts), 5.0, {})  # type: ignore[arg-type]


ME = row("me").node


def none_runs(pid: int, started: int) -> bool:
    return False


def test_dead_daemons_of_the_same_name_and_place_are_predecessors() -> None:
    rows = [row("me"), row("old"), row("other", name="x@box"), row("away", host="boot/2")]
    assert predecessors.dead(ME, rows, none_runs) == ["old"]


def test_without_a_known_host_nothing_is_judged() -> None:
    nowhere = row("me", host="").node
    assert predecessors.dead(nowhere, [row("old", host="")], none_runs) == []


def test_a_daemon_that_runs_is_no_predecessor_and_a_new_process_of_its_pid_is_not_it() -> None:
    rows = [row("old", pid=77, pid_started=1)]
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (77, 1)) == []
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (77, 2)) == ["old"]


def test_a_daemon_whose_scheduler_still_watches_draining_workers_is_left_alone() -> None:
    rows = [row("old", info={predecessors.SCHEDULER: predecessors.identity(88, 3)})]
    assert predecessors.dead(ME, rows, lambda pid, started: (pid, started) == (88, 3)) == []
    assert predecessors.lingering(ME, rows)
    assert predecessors.dead(ME, rows, none_runs) == ["old"]

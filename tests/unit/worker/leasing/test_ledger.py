"""One worker's leases: when outcomes are settled, when unstarted jobs go back, when more are asked for."""

from __future__ import annotations

import math

from taskqd.jobs.job import Outcome
from taskqd.worker.leasing.ledger import FLUSH_COUNT, FLUSH_S, SLICE_S, LeaseLedger


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


def test_what_a_server_that_is_away_is_to_be_told_waits_beside_the_others() -> None:
    ledger = LeaseLedger(1)
    ledger.handed(6, 0.0)
    here, there = (Outcome("1", "here", 1, "ack"), Outcome("2", "there", 2, "ack"))
    ledger.finished([there, here], 1.0)
    ledger.sending()
    later = Outcome("3", "there", 3, "ack")
    ledger.finished([later], 1.1)
    ledger.put_aside(["there"])
    assert ledger.sending() == [here], "what was sent is repeated as it was"
    newest = Outcome("4", "there", 4, "ack")
    ledger.finished([newest], 1.2)
    ledger.answered()
    assert ledger.sending() == []
    assert (ledger.pending, ledger.has_aside) == (3, True)
    assert ledger.sent_to("there") == [there]
    ledger.take_up("there")
    assert ledger.sending() == [later, newest]
    assert (ledger.pending, ledger.has_aside) == (2, False)

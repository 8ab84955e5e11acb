"""Short runs of contention under kills, and lies that their checkers catch; `make contention` is long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.checks.locks_and_rates import S, crowded, holds, overlaps
from tests.chaos.contention import hold_contest
from tests.chaos.ledger import Fault, Line
from tests.support.servers.redis_server import available_servers

SHORT = [("locks", 120, "redis"), ("leaks", 150, "sqlite"), ("rate", 2, "redis")]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "amount", "storage"), SHORT)
def test_contention_under_kills_breaks_no_law(
    tmp_path: Path, what: str, amount: float, storage: str
) -> None:
    if storage != "sqlite" and storage not in available_servers():
        pytest.skip(f"no {storage} server")
    result = hold_contest(what, tmp_path / what, storage, amount, daemons=2)
    assert result.wrong == []
    assert any(name.startswith("kill") for name in result.counts)


# -- lies ----------------------------------------------------------------------------------------


def line(event: str, at_ms: float, job: str, pid: int = 1, token: int = 1) -> Line:
    return Line(e=event, m=round(at_ms * 1e6), w=0, pid=pid, id=job, token=token, name="door")


def death(pid: int, begin_ms: float, end_ms: float) -> Fault:
    return Fault(kind="worker", begin=round(begin_ms * 1e6), end=round(end_ms * 1e6), killed=[pid])


def told(lines: list[Line], *faults: Fault) -> list[str]:
    return list(overlaps(list(holds(lines, faults))))


def test_holders_one_after_the_other_are_no_overlap() -> None:
    lines = [line("lock", 1, "a"), line("unlock", 2, "a"), line("lock", 2.1, "b", 2), line("unlock", 3, "b", 2)]  # fmt: skip
    assert told(lines) == []


def test_two_holders_at_a_time_are_seen() -> None:
    lines = [line("lock", 1, "a"), line("lock", 2, "b", 2), line("unlock", 3, "a"), line("unlock", 4, "b", 2)]  # fmt: skip
    assert len(told(lines)) == 1


def test_a_short_holder_within_a_long_one_does_not_hide_the_next() -> None:
    lines = [line("lock", 1, "a"), line("lock", 2, "b", 2), line("unlock", 3, "b", 2), line("lock", 4, "c", 3)]  # fmt: skip
    lines += [line("unlock", 5, "c", 3), line("unlock", 9, "a")]
    assert len(told(lines)) == 2


def test_a_killed_holder_held_until_it_was_killed_and_no_longer() -> None:
    lines = [line("lock", 1, "a"), line("lock", 5, "b", 2), line("unlock", 6, "b", 2)]
    assert told(lines, death(1, 4, 4.5)) == []
    assert len(told(lines, death(1, 5.5, 6))) == 1


def test_a_holder_that_ended_by_nobodys_hand_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody killed"):
        told([line("lock", 1, "a")], death(2, 3, 4))


def test_a_window_slides() -> None:
    starts = [0, *(round(0.99 * S) + n for n in range(5))]
    assert len(list(crowded(starts, 5, S))) == 1
    assert list(crowded([n * S // 5 for n in range(50)], 5, S)) == []
